"""Reads and writes files, folders and URLs safely."""
