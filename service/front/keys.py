"""API keys: who may ask, and for what. Only their SHA-256 is kept."""

import asyncio
import hashlib
import hmac
import logging
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from bundle import wording
from bundle.folder import small_file
from service.errors import KeyForbidden, KeyMissing
from service.front.key import Key, Role
from service.front.shared_keys import SharedKeys
from service.settings import Settings

LEAST_CHARACTERS = 16
"""Of a key that is written as it is."""
POLL_SECONDS = 1.0
"""The file is looked at this often, so that keys can be changed without a restart."""
FOLLOW_SECONDS = 0.2
"""A worker looks this often what its supervisor read."""
_DIGEST = re.compile("sha256:([0-9a-f]{64})")
_LIKE_A_DIGEST = re.compile("sha256:.*|[0-9a-f]{64}", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_BEARER = re.compile(rb"bearer +([!-~]+)[ \t]*", re.IGNORECASE)

log = logging.getLogger("surprisal.keys")


class KeysInvalid(Exception):
    """The keys cannot be understood; the message says where and never quotes one."""


class KeyRing:
    """The keys of a service; none at all means that everybody may ask.

    Args:
        settings: Where they are: a file, which is read again when it changes, and a variable.
        shared: Where the supervisor tells them to its workers, which then read neither; or None.

    Raises:
        KeysInvalid: They cannot be read.
        TimeoutError: The supervisor told none.
    """

    def __init__(self, settings: Settings, shared: SharedKeys | None = None) -> None:
        self._shared = shared
        if shared is not None:
            self._keys = shared.first()
            return
        self._file = settings.keys_file
        given = settings.keys.get_secret_value() if settings.keys is not None else ""
        self._given = parse(re.sub("[,;]", "\n", given), "SURPRISAL_KEYS")
        self._fault = ""
        self._seen = self._fingerprint()
        self._keys = self._given + self._read()
        if (self._file is not None or given) and not self._keys:
            source = "SURPRISAL_KEYS" if self._file is None else self._file
            raise KeysInvalid(f"{source} holds none, so that nobody could ask; a line is `score KEY` or `admin KEY`")

    @property
    def locked(self) -> bool:
        """Whether keys are asked for."""
        return bool(self._keys)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Those that are known now."""
        return self._keys

    def require(self, headers: Iterable[tuple[bytes, bytes]], needed: Role) -> bytes:
        """Check the key of a request to a service that is locked.

        Args:
            headers: Names in lower case.
            needed: What the request takes.

        Returns:
            The key's SHA-256.

        Raises:
            KeyMissing: There is none, or nobody knows it.
            KeyForbidden: It is not good for this.
        """
        # Of two, a proxy might have checked the other one.
        sent = [value for name, value in headers if name == b"authorization"]
        given = _BEARER.fullmatch(sent[0]) if len(sent) == 1 else None
        if given is None:
            raise KeyMissing("send a key: Authorization: Bearer KEY", close=True)
        digest = hashlib.sha256(given[1]).digest()
        role: Role | None = None
        for key in self._keys:  # all of them, however soon one fits: the time it takes tells nothing
            if hmac.compare_digest(key.digest, digest):
                role = key.role if role is not Role.ADMIN else role
        if role is None:
            raise KeyMissing("this key is not known here", close=True)
        if role is not needed and role is not Role.ADMIN:
            raise KeyForbidden(f"this takes a key of the role {needed}")
        return digest

    async def watch(self, changed: Callable[[], None] | None = None) -> None:
        """Follow the file, or the supervisor, for ever; while the file cannot be read, the keys that were known stay.

        Args:
            changed: Called whenever other keys are known.
        """
        if self._shared is not None:
            await self._follow(self._shared)
        elif self._file is not None:
            # A file of a network that is away may be waited for; nobody else waits for this thread.
            pool = ThreadPoolExecutor(1, "keys")
            try:
                await self._watch_file(pool, changed)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, shared: SharedKeys) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                self._keys = shared.follow() or self._keys
            except Exception:
                log.exception("the keys could not be looked at")

    async def _watch_file(self, pool: ThreadPoolExecutor, changed: Callable[[], None] | None) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            known = self._keys
            try:
                await asyncio.get_running_loop().run_in_executor(pool, self.refresh)
                if changed is not None and self._keys is not known:
                    changed()
            except Exception:
                log.exception("the keys could not be looked at")

    def refresh(self) -> None:
        """Read the file again if it has changed, and again until it can be read; each fault is said once."""
        seen = self._fingerprint()
        if seen == self._seen:
            return
        try:
            keys = self._given + self._read()
            if not keys:
                raise KeysInvalid(f"{self._file} holds none")
        except KeysInvalid as error:
            if str(error) != self._fault:
                log.error("the keys stay as they were: %s", error)
            self._fault = str(error)
            return
        self._seen, self._fault = seen, ""
        self._keys = keys
        log.info("%d keys are known now", len(keys))

    def _read(self) -> tuple[Key, ...]:
        if self._file is None:
            return ()
        try:
            return parse(small_file.read(self._file).decode("utf-8-sig"), str(self._file))
        except PermissionError as error:
            raise KeysInvalid(f"{self._file}: the user {os.geteuid()}, who runs this, may not read it") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = wording.of_system(error) if isinstance(error, OSError) else "is no text in UTF-8"
            raise KeysInvalid(f"{self._file}: {reason}") from error

    def _fingerprint(self) -> object:
        try:
            seen = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if seen is None else (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def parse(text: str, source: str) -> tuple[Key, ...]:
    """Read keys: a line each, `ROLE sha256:DIGEST` or `ROLE KEY`; what follows a # is a comment.

    Args:
        text: The lines.
        source: What they are from, for errors.

    Raises:
        KeysInvalid: A line is neither.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        words = _COMMENT.sub("", line).split()
        if not words:
            continue
        where = f"{source}, line {number}"
        if len(words) != 2 or words[0] not in list(Role):
            raise KeysInvalid(f"{where}: a role ({' or '.join(Role)}) and a key are expected, as `score sha256:…`")
        digest = _DIGEST.fullmatch(words[1])
        if digest is None and _LIKE_A_DIGEST.fullmatch(words[1]):
            raise KeysInvalid(f"{where}: a digest is written sha256: and 64 digits from 0 to f, in small letters")
        if digest is None and (len(words[1]) < LEAST_CHARACTERS or not words[1].isascii()):
            raise KeysInvalid(f"{where}: a key has {LEAST_CHARACTERS} characters of ASCII or more")
        hashed = bytes.fromhex(digest[1]) if digest else hashlib.sha256(words[1].encode()).digest()
        keys.append(Key(hashed, Role(words[0])))
    return tuple(keys)
