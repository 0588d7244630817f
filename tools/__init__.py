"""The commands. Each file is one: flags, one call into the library, one line on what was written."""
