"""The commands: a file each, with its flags, one library call and a line on what was written."""
