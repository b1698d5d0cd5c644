"""The names of secrets: one list for all that looks for them.

Where it is known what a name is, as in a URL's query, it is enough that one of `PARTS` is in it. In prose that must be
guessed, so that beside each part stands how it is spelt as a word of its own.
"""

REDACTED = "REDACTED"

PARTS = {
    "token": "token",
    "key": "(?:api|access|secret|private|auth)[_-]?key",
    "secret": "secret",
    "passw": "passw(?:or)?d",
    "pwd": "pwd",
    "credential": "credentials?",
    "session": "session(?:_?id)?",
    "signature": "signature",
}
"""Whatever has a name with one of these in it is a secret. The signatures of AWS, Azure and Google that the semantic
conventions name are among them, but for `sig`. The values are patterns."""

WHOLE = ("authorization", "jwt")
"""What is secret by this very name."""

IN_QUERIES = ("code", "auth", "sig", "sid")
"""The same, but only in the query of a URL: elsewhere these are ordinary words."""
