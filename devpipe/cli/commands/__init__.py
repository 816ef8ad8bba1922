"""What can a person do from a shell? One file per command: its help, its arguments, its act."""
