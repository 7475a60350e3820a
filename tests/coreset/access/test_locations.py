"""Where a spec may point, by its name alone."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreset.access.locations import Location, Locations
from coreset.errors import LocationForbidden, ShardUnreadable
from coreset.spec.job import JobSpec
from coreset.spec.shard_uris import expand_uris
from tests.service.conftest import SPEC

ROOTS = Locations.parse("/pools, s3://bucket/prefix/ https://data.example/pools http://10.0.0.7:9000/")

EVERYWHERE = [
    "pipe:cat /etc/passwd",
    "PIPE:cat /etc/passwd",
    "zip://a.tar::s3://bucket/x.zip",
    "simplecache::s3://bucket/x.tar",
    "github://org:repo@main/x.tar",
    "ftp://host/x.tar",
    "sftp://host/x",
    "memory://x",
    "data:,x",
    "s3:bucket/x",
    "s3://key:secret@bucket/x",
    "https://user:password@data.example/x",
    "~/x.tar",
    "~root/x.tar",
    "file://~/x.tar",
    "file://host/x.tar",
    "file:x.tar",
    "/pools/../etc/passwd",
    "/pools/x/..",
    "..",
    "../x.tar",
    "s3://bucket/prefix/../other/x.tar",
    "https://data.example/pools/../x.tar",
    "https://data.example/pools/%2e%2e/x.tar",
    "https://data.example/pools/%252e%252e/x.tar",
    "https://data.example/pools\\..\\x.tar",
    "https://data.example\\@169.254.169.254/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:6379/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[fe80::1%25eth0]/",
    "http://10.0.0.1/",
    "/pools/x\n.tar",
    "/pools/x\x00.tar",
]


@pytest.mark.parametrize("uri", EVERYWHERE)
@pytest.mark.parametrize("locations", [Locations(), ROOTS])
def test_these_are_nowhere_allowed(uri: str, locations: Locations) -> None:
    with pytest.raises(LocationForbidden) as caught:
        locations.check(uri)
    assert "secret" not in str(caught.value)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "/pools/x.tar",
        "/pools",
        "//pools/./x//y.tar",
        "file:///pools/x.tar",
        "file:/pools/x.tar",
        "s3://bucket/prefix/x.tar",
        "S3://bucket/prefix/x.tar",
        "https://data.example/pools/x.tar?sig=1",
        "https://DATA.example./pools/x.tar",
        "https://data.example/%70ools/x.tar",
        "http://10.0.0.7:9000/x.tar",
        "/pools/$HOME/x.tar",
        "/pools/a:b.tar",
        "/pools/..x/...tar",
    ],
)
def test_these_are_below_the_roots(uri: str) -> None:
    ROOTS.check(uri)
    Locations().check(uri) if "10.0.0.7" not in uri else None


@pytest.mark.parametrize(
    "uri",
    [
        "/poolsx/x.tar",
        "/etc/passwd",
        "x.tar",
        "s3://bucket/prefixed/x.tar",
        "s3://bucket2/prefix/x.tar",
        "gs://bucket/prefix/x.tar",
        "https://data.example/pool",
        "http://data.example/pools/x.tar",
        "https://data.example.evil.example/pools/x.tar",
        "https://169.254.169.254/pools/x.tar",
    ],
)
def test_these_are_not(uri: str) -> None:
    with pytest.raises(LocationForbidden):
        ROOTS.check(uri)


def test_a_scheme_alone_allows_all_of_it_but_private_networks() -> None:
    some = Locations.parse("https://")
    some.check("https://anywhere.example/x.tar")
    for uri in ("https://192.168.0.1/x.tar", "/x.tar", "s3://b/x"):
        with pytest.raises(LocationForbidden):
            some.check(uri)


def test_a_service_for_others_reads_no_local_files_unless_told() -> None:
    with pytest.raises(LocationForbidden, match="CORESET_ALLOWED_URIS"):
        Locations.parse("", local=False).check("/pool/x.tar")
    Locations.parse("", local=False).check("s3://bucket/x.tar")
    Locations.parse("/pool", local=False).check("/pool/x.tar")


@given(st.text(string.ascii_letters + string.digits + "./\\%:@?#{},~$ \u00e4", max_size=40))
def test_what_is_allowed_below_a_folder_is_below_it(tail: str) -> None:
    for head in ("", "/pools", "/pools/", "file://", "file:/pools/"):
        try:
            place = Locations.parse("/pools").check(head + tail)
        except LocationForbidden:
            continue
        assert place.path == "/pools" or place.path.startswith("/pools/")
        assert ".." not in place.path.split("/")
        assert place.scheme == "file"


def test_prefixes_that_cannot_be_are_refused() -> None:
    for text in ("ftp://x", "/a/../b", "zip://x"):
        with pytest.raises(LocationForbidden):
            Locations.parse(text)
    assert Locations.parse(" /a,\n/b ").allowed == (Location("file", "", "/a"), Location("file", "", "/b"))


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": {"shards": ["/pools/{a,../../etc/passwd}.tar"]}},
        {"pool": {"shards": ["/pools/x/{.,}./{.,}./etc/x.tar"]}},
        {"pool": {"shards": ["{/pools,/etc}/x.tar"]}},
        {"pool": {"shards": ["/pools/a.tar::/etc/b.tar"]}},
        {"target": {"pool": {"shards": ["/etc/x.tar"]}}},
        {"checkpoints": {"run": "/root"}},
        {"checkpoints": {"files": ["/pools/a.pt", {"uri": "/etc/b.pt"}]}},
        {"clip_model": {"name": "ViT-B-32", "pretrained": "/etc/x.pt"}},
        {"clip_model": {"name": "ViT-B-32", "pretrained": "https://evil.example/x.pt"}},
    ],
)
def test_every_place_of_a_spec_is_checked(changes: dict[str, object]) -> None:
    good = {**SPEC, "pool": {"shards": ["/pools/{0..9}.tar"]}, "checkpoints": {"run": "/pools/run"}}
    good |= {"clip_model": {"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}}
    Locations.parse("/pools").check_spec(JobSpec.model_validate(good))
    with pytest.raises(LocationForbidden):
        Locations.parse("/pools").check_spec(JobSpec.model_validate({**good, **changes}))


@pytest.mark.parametrize(
    "uri",
    [
        "/{0..9999999}.tar",
        "/{0..999}{0..999}{0..999}.tar",
        "/{0..99999999999999999999}.tar",
        "/{a,b}" * 40,
        "/{" * 1000 + "a" + "}" * 1000,
        "/{a..z}{a..z}{a..z}{a..z}{a..z}.tar",
        "/{0..99999}" + "x" * 4000,
        "/{0.." + "0" * 3000 + "9}",
    ],
)
def test_bombs_of_braces_are_refused_before_they_go_off(uri: str) -> None:
    with pytest.raises(ShardUnreadable):
        list(expand_uris([uri] * 10))


def test_the_largest_known_pool_is_no_bomb() -> None:
    assert sum(1 for _ in expand_uris(["s3://b/{00000000..01288149}.tar"])) == 1_288_150
