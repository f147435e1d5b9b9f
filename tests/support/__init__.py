"""What several tests share: commands, made-up data and histories, servers."""
