"""Files, folders and locations: reading and writing that is whole or absent."""
