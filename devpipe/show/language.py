"""In which language does a page speak?"""

from devpipe.text.messages import machine_language, primary


def page_language(asked: str = "") -> str:
    """The language of a page: the one asked for, else that of this machine."""
    return primary(asked or machine_language())
