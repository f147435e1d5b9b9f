"""Convolution as the cuDNN paper describes it: algorithms, the layers to try, and measurements.

The symbols are the paper's: N images, C input maps of H x W, K filters of R x S. The outputs have P
rows and Q columns.
"""
