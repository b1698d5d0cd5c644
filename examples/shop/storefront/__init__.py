"""The shop's front door, of team web."""
