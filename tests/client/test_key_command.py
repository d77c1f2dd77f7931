"""A node makes its own key, and only the public part is to be handed out."""

import stat
from pathlib import Path

import pytest
import typer
from fedrec_client.key_command import key
from typer.testing import CliRunner

from fedrec.errors import InputError
from fedrec.transport.node_key import from_pem, public_part, read_public

app = typer.Typer()
app.command()(key)


def test_a_node_makes_its_key_once(tmp_path: Path) -> None:
    file = tmp_path / "node.key"
    said = CliRunner().invoke(app, [str(file)])
    assert said.exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    public = read_public(tmp_path / "node.key.pub")
    assert public_part(file) == public
    assert from_pem(public.pem) == public
    assert public.fingerprint in said.stdout
    assert "PRIVATE" not in said.stdout
    before = file.read_bytes()
    again = CliRunner().invoke(app, [str(file)])
    assert isinstance(again.exception, InputError)
    assert "never overwritten" in str(again.exception)
    (tmp_path / "node.key.pub").unlink()
    again = CliRunner().invoke(app, [str(file)])
    assert "never overwritten" in str(again.exception)
    assert file.read_bytes() == before
    assert CliRunner().invoke(app, [str(file), "--show"]).stdout == public.line + "\n"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"\xff"])
def test_what_is_no_key_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    file.chmod(0o600)
    for read in (public_part, read_public):
        with pytest.raises(InputError) as caught:
            read(file)
        assert "\n" not in str(caught.value)
    assert from_pem(content) is None
