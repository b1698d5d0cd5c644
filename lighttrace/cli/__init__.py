"""The `lighttrace` command. Each subcommand is a file of its own and is imported only when it is chosen."""
