"""Which passwords are taken, and how the gateway makes one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

SHORTEST = 10
LONGEST = 128
FEWEST_KINDS = 4  # different characters: 1111111111 and abababab… are guessed first

# Of ten and more characters, from the lists that guessing programs begin with and the habits of the trade.
_COMMON = """
0123456789 1234567890 12345678910 123456789a 123456789q 1234567891 0987654321 9876543210 1233211234567 1122334455
a123456789 q123456789 aa12345678 aa123456789 abc123456789 abcd123456 abcd12345678 abcdefghij abcdefg123 a1b2c3d4e5
qwertyuiop qwerty12345 qwerty123456 1qaz2wsx3edc 1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4t5 zaq12wsxcde3 asdfghjkl123
zxcvbnm123 zxcvbnm,./ 1qazxsw23edc qazwsxedcrfv !@#$%^&*() 1qaz@wsx3edc
password12 password123 password1234 passw0rd12 passw0rd123 p@ssw0rd12 p@ssw0rd123 p@ssword123 mypassword
admin12345 admin123456 admin@12345 admin@123456 admin@1234 admin123456789 administrator administrator1 adminadmin
admin888888 root123456 root@123456 rootroot123 user123456 test123456 test@123456 testtest123 guest12345
changeme12 changeme123 letmein123 letmein1234 welcome123 welcome1234 welcome@123 iloveyou12 iloveyou123 sunshine123
woaini1314 woaini1314520 woaini5201314 5201314520 1314520520 5201314woaini 147258369a 1472583690 147258369147
huawei@123 huawei12#$ hikvision123 dahua12345 system12345 operator123 operator12345 supervisor1
citywatch1 citywatch12 citywatch123 citywatch1234 citywatch@123 chengshigengfu lamp123456
"""
COMMON = frozenset(_COMMON.split())

# No 0 O 1 l I: a one-time password is read out or written on paper.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, GROUP = 4, 4  # 31¹⁶: 79 bits, nothing to guess


def normal_name(name: str) -> str:
    """A user's name as it is kept and compared: how it was typed on a keyboard does not matter."""
    return unicodedata.normalize("NFKC", name).casefold()


def normal_password(password: str) -> str:
    """A password as it is hashed: the same characters, however a keyboard composes them (NIST SP 800-63B 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def weakness(password: str, *names: str) -> str | None:
    """Why this is no password for somebody called by ``names``; None when it is one."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters"
    plain = normal_password(password).casefold()
    for name in names:
        word = "".join(normal_name(name).split())
        if word and not "".join(plain.split()).replace(word, ""):
            return "a password is not the name"
    if plain in COMMON or len(set(plain)) < FEWEST_KINDS:
        return "this is one of the passwords that are guessed first"
    return None


def one_time_password(choose: Callable[[str], str]) -> str:
    """Four groups of four; ``choose`` picks one character at random (``secrets.choice``)."""
    return "-".join("".join(choose(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))
