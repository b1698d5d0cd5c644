"""What else might please, of team discovery."""
