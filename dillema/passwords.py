"""Keeps the passwords of addresses out of files and messages."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from .files import write_atomically

HIDDEN = "***"
# Hydra writes a colon and an equals sign with backslashes
USER_AND_PASSWORD = re.compile(r"(\w\\*://[^/\s:@]*:)(?!\d+[/,\s])(?:[^/\s]+|[^\s@]+)@")
PASSWORD_IN_QUERY = re.compile(r"([?&]password\\*=)[^&\s'\"]+")


class PasswordFormatter(logging.Formatter):
    """Formats log records without the passwords of addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text of a record."""
        return hide_passwords(super().format(record))


def hide_passwords(text: str) -> str:
    """Returns a text in which the passwords of addresses are replaced."""
    return PASSWORD_IN_QUERY.sub(rf"\1{HIDDEN}", USER_AND_PASSWORD.sub(rf"\1{HIDDEN}@", text))


def hide_passwords_in_files(files: Iterable[Path]) -> None:
    """Replaces the passwords of addresses in text files; files without any, or that do not exist, stay."""
    for file in files:
        if file.is_file():
            content = file.read_text(encoding="utf-8")
            if (hidden := hide_passwords(content)) != content:
                write_atomically(file, hidden)


def find_address(hidden: str, addresses: Iterable[str]) -> str:
    """Returns the address whose password was replaced; the given one if it is not among the addresses."""
    return next((address for address in addresses if hide_passwords(address) == hidden), hidden)


def lacks_password(address: str) -> bool:
    """Returns whether the password of an address was replaced."""
    return f":{HIDDEN}@" in address or f"password={HIDDEN}" in address
