"""Exercises 3.2 and 3.3: the MLP of the sheet, and a small CNN with dropout."""

import torch
import torch.nn.functional as F  # noqa: N812 - as in PyTorch's own examples
from torch import nn


class MLP(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.linear1 = nn.Linear(inputs, 512)
        self.linear2 = nn.Linear(512, 128)
        self.linear3 = nn.Linear(128, 10)

    def forward(self, x):
        x = x.flatten(1)
        x = torch.sigmoid(self.linear1(x))
        x = torch.sigmoid(self.linear2(x))
        return F.log_softmax(self.linear3(x), dim=1)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(16 * 7 * 7, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout(torch.flatten(x, 1))
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


def mlp(inputs=784):
    return MLP(inputs)


def cnn():
    return CNN()
