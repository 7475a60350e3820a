"""Where a spec may point: which schemes, which folders and prefixes. The service and the workers judge the
name here; workers check again when they open it (coreset_workers.data.opening), where links, DNS and redirects can be
seen.

Nothing of a spec is expanded: no ~, no environment variables, no fsspec chains. Only shards have braces and `a::b`.
"""

import ipaddress
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from coreset.access.addresses import is_public
from coreset.errors import LocationForbidden, ShardUnreadable
from coreset.spec.job import JobSpec, ValidationTarget
from coreset.spec.shard_uris import collapsed, expand, patterns_of

SCHEMES = ("s3", "gs", "hf", "http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_EXPANDED = 10_000
"""Largest number of URIs that the braces of a spec may make for the check, where a range below a folder makes one."""
_SPLIT = re.compile(r"(?P<host>[^/?#]*)(?P<path>[^?#]*)")


class Location(NamedTuple):
    """A place: scheme (`file` for local paths), host or bucket, and its path, absolute and without `.` and `//`."""

    scheme: str
    host: str
    path: str

    def holds(self, other: "Location") -> bool:
        """Return whether another place is this prefix or below it."""
        if self.scheme != other.scheme or self.host not in ("", other.host):
            return False
        folder = self.path.rstrip("/")
        return other.path == folder or other.path.startswith(f"{folder}/") or not folder


@dataclass(frozen=True)
class Locations:
    """What is allowed.

    Attributes:
        allowed: prefixes: `/folder`, `s3://bucket/prefix`, or `https://` for all of a scheme. Empty allows all SCHEMES
            and, if `local`, every local file. An http prefix with a host allows that host wherever it is, a private
            network too; no other one there is.
        local: whether local files are allowed where no prefix is named.
        folders: local folders that are allowed nevertheless.
    """

    allowed: tuple[Location, ...] = ()
    local: bool = True
    folders: tuple[Location, ...] = ()

    @classmethod
    def parse(cls, text: str, local: bool = True) -> Self:
        """Read prefixes, separated by commas or white space.

        Raises:
            LocationForbidden: one of them is not a folder or a prefix of SCHEMES.
        """
        return cls(tuple(located(prefix) for prefix in re.split(r"[\s,]+", text.strip()) if prefix), local)

    def with_folder(self, uri: str) -> Self:
        """Return the rules that allow a folder of the storage, too."""
        try:
            folder = located(uri)
        except LocationForbidden:  # a storage whose scheme no spec can name
            return self
        if self.allowed:
            return replace(self, allowed=(*self.allowed, folder))
        return self if folder.scheme != "file" or self.local else replace(self, folders=(*self.folders, folder))

    def check(self, uri: str) -> Location:
        """Return the place that a URI names.

        Raises:
            LocationForbidden: says why it is not allowed.
        """
        place = located(uri)
        if self.allowed:
            if not any(prefix.holds(place) for prefix in self.allowed):
                raise _forbidden(uri, "it is below none of the allowed prefixes (CORESET_ALLOWED_URIS)")
        elif place.scheme == "file" and not self.local and not any(folder.holds(place) for folder in self.folders):
            raise _forbidden(uri, "local files are allowed below the folders that CORESET_ALLOWED_URIS names only")
        if place.scheme in ("http", "https") and _is_private_literal(place.host) and not self.trusts(place.host):
            raise _forbidden(uri, "its host is an address of a private network")
        return place

    def trusts(self, host: str) -> bool:
        """Return whether a prefix names this http host, so that it may be in a private network."""
        return any(prefix.host == host.lower() for prefix in self.allowed if prefix.scheme in ("http", "https"))

    def check_spec(self, spec: JobSpec) -> None:
        """Check every place that a job spec names, before anything is touched.

        Shards are checked by their patterns: a range below an allowed folder is allowed whatever its numbers are.

        Raises:
            LocationForbidden: names the first that is not allowed.
            ShardUnreadable: braces that do not match, or too many shards.
        """
        for uri in _named_in(spec):
            self.check(uri)
        expanded = 0
        for pattern in _patterns_in(spec):
            if not set("{\\") & set(pattern):
                self.check(pattern)
                continue
            below = self._allows_below(_folder(pattern))
            for uri in expand(collapsed(pattern) if below else pattern):
                self.check(uri)
                expanded += 1
                if expanded > MAX_EXPANDED:
                    raise _too_many(pattern, below)

    def _allows_below(self, folder: str) -> bool:
        try:
            self.check(folder)
        except LocationForbidden:
            return False
        return bool(folder)


def places_in(spec: JobSpec) -> Iterator[str]:
    """Yield every place that a spec names, of a pattern the first URI only."""
    yield from _named_in(spec)
    for pattern in _patterns_in(spec):
        yield next(iter(expand(collapsed(pattern))), pattern)


def is_relative(uri: str) -> bool:
    """Return whether a URI is a path that depends on the current folder."""
    return not uri.startswith(("/", "~")) and _SCHEME.match(uri) is None


def _patterns_in(spec: JobSpec) -> Iterator[str]:
    yield from patterns_of(spec.pool.shards)
    if isinstance(spec.target, ValidationTarget):
        yield from patterns_of(spec.target.pool.shards)
    if spec.evaluate is not None:
        yield from patterns_of(spec.evaluate.test.shards)


def _folder(pattern: str) -> str:
    """Return the folder in front of a pattern's braces; empty if numbers in them may change more than a name below it.

    They may change a host, a scheme or the first folder, an escape of braces, and percent-encoded characters.
    """
    before = pattern.partition("{")[0]
    remote = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://(.*)", before)
    named = remote[1].find("/") > 0 if remote else "/" in before
    return before[: before.rfind("/") + 1] if named and not set("\\%") & set(pattern) else ""


def _named_in(spec: JobSpec) -> Iterator[str]:
    if spec.checkpoints is not None:
        if spec.checkpoints.run is not None:
            yield spec.checkpoints.run
        for file in spec.checkpoints.files or ():
            yield file.uri
    weights = spec.clip_model.pretrained if spec.clip_model else None
    if weights is not None and is_location(weights):
        yield weights


def is_location(text: str) -> bool:
    """Return whether a text is a file or URI; open_clip's tags have letters, digits, _ - and . only."""
    return re.search(r"[^\w.-]", text) is not None or text.startswith(".") or text.endswith((".pt", ".bin"))


def located(uri: str) -> Location:
    """Return the place that a URI names.

    Raises:
        LocationForbidden: no allow list could permit the URI.
    """
    if _CONTROL.search(uri):
        raise _forbidden(repr(uri)[:200], "it holds control characters")
    if "::" in uri:
        raise _forbidden(uri, "chained URIs are not followed; only shards are concatenated, as a::b")
    found = _SCHEME.match(uri)
    scheme = found[1].lower() if found else "file"
    rest = uri[found.end() :] if found else uri
    if scheme == "gcs":
        scheme = "gs"
    if scheme == "file":
        return _local(uri, rest.removeprefix("//") if found else rest, bool(found))
    if scheme not in SCHEMES or not rest.startswith("//"):
        raise _forbidden(uri, f"{scheme}: is not read; give a path, or a URI of {', '.join(SCHEMES)}")
    return _remote(uri, scheme, rest[2:])


def _local(uri: str, path: str, is_uri: bool) -> Location:
    if is_uri and not path.startswith("/"):
        raise _forbidden(uri, "a file URI has an absolute path: file:///folder/file")
    if path.startswith("~"):
        raise _forbidden(uri, "~ is not expanded: whose home would it be? Give the whole path")
    return Location("file", "", _normal(uri, path))


def _remote(uri: str, scheme: str, rest: str) -> Location:
    split = _SPLIT.match(rest)
    host, path = (split["host"], split["path"]) if split else ("", "")
    if "@" in host:
        raise _forbidden(uri, "it holds credentials; the workers have their own, and a spec is seen by others")
    if scheme in ("http", "https"):
        host, path = _host(uri, host), _decoded(uri, path)
    return Location(scheme, host, _normal(uri, path))


def _host(uri: str, netloc: str) -> str:
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        host = "\\"
    if "\\" in host or "%" in host:
        raise _forbidden(uri, "its host cannot be read")
    return host.rstrip(".")


def _decoded(uri: str, path: str) -> str:
    """Return the path as the last of several servers in a row may read it."""
    for _ in range(3):
        path = unquote(path)
    if "\\" in path:
        raise _forbidden(uri, "it holds a backslash")
    return path


def _normal(uri: str, path: str) -> str:
    if ".." in path.split("/"):
        raise _forbidden(uri, "it holds `..`; give the path itself")
    normal = posixpath.normpath(path) if path else ""
    return "/" + normal.lstrip("/") if path.startswith("/") else normal


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return False


def _too_many(pattern: str, below: bool) -> ShardUnreadable:
    way_out = "write numbers as ranges, {000..999}" if below else "write an allowed folder before the braces"
    return ShardUnreadable(
        f"{pattern[:200]}: the braces make more than {MAX_EXPANDED:,} URIs to check; {way_out}, or list the shards",
        uri=pattern[:200],
    )


def _forbidden(uri: str, why: str) -> LocationForbidden:
    return LocationForbidden(f"{uri} is not allowed: {why}", uri=uri)
