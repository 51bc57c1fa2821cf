"""All steps in one command, within the minutes that a person has."""
