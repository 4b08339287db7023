"""Where settings come from, and which source wins."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.settings import SECRETS_DIR_VARIABLE, Settings
from shared.wrong_settings import misspelled_settings, wrong_settings


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secret files that the settings know of."""
    (tmp_path / "database_url").write_text("postgresql+psycopg://from-a-file\n")
    (tmp_path / "s3_secret_key").write_text("key-from-a-file\n")
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def settings(**given: str) -> Settings:
    """Return the settings of this environment, without the tester's own `.env`."""
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]  # pydantic parses strings


def test_a_secret_file_is_named_like_its_field_and_read_without_its_newline(
    secrets: Path,
) -> None:
    assert settings().database_url.get_secret_value() == "postgresql+psycopg://from-a-file"
    assert settings().s3_secret_key.get_secret_value() == "key-from-a-file"


def test_the_environment_wins_over_a_secret_file(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_DATABASE_URL", "postgresql+psycopg://from-the-environment")
    assert settings().database_url.get_secret_value().endswith("from-the-environment")
    assert settings().s3_secret_key.get_secret_value() == "key-from-a-file"


def test_what_is_given_wins_over_everything(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLREEL_S3_SECRET_KEY", "from-the-environment")
    assert settings(s3_secret_key="given").s3_secret_key.get_secret_value() == "given"


def test_without_a_folder_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, "")
    assert settings().s3_secret_key.get_secret_value() == ""


def test_a_missing_folder_is_refused_rather_than_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="which is not a folder"):
        settings()


def test_a_secret_is_not_shown_when_the_settings_are(secrets: Path) -> None:
    assert "from-a-file" not in repr(settings())


@pytest.mark.parametrize(
    "name",
    [name for name, field in Settings.model_fields.items() if field.default is None],
)
def test_a_line_that_ends_at_its_sign_sets_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"STILLREEL_{name.upper()}", "")
    assert getattr(settings(), name) is None


@pytest.mark.parametrize(
    "url",
    [
        *("https://video.example.org", "http://10.0.0.5:7860", "http://[fd12::1]:7860"),
        *("https://example.org/stillreel", "https://example.org/a/b-c"),
    ],
)
def test_a_public_url_is_where_links_begin(url: str) -> None:
    assert settings(public_url=url).own_url == url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("0.0.0.0", "http://127.0.0.1:7860"),  # noqa: S104 (a setting, nothing listens)
        ("::1", "http://[::1]:7860"),
    ],
)
def test_without_a_public_url_links_begin_where_the_gateway_listens(host: str, url: str) -> None:
    assert settings(host=host).own_url == url


@pytest.mark.parametrize(
    "wrong",
    [
        *("video.example.org", "//video.example.org", "ftp://example.org", "https://"),
        *("https://example.org/", "https://example.org/a/", "https://example.org?a=b"),
        *("https://user:secret@example.org", "https://example.org#a", " https://example.org"),
    ],
)
def test_a_public_url_that_no_link_can_begin_with_is_refused_by_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"like https://video\.example\.org") as refused:
        settings(public_url=wrong)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["", "0,five", "0,-1", "0,inf", "nan"])
def test_a_schedule_that_is_none_is_refused_by_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match="like 0,5,300"):
        settings(webhook_schedule=wrong)


@pytest.mark.parametrize("wrong", ["10.1.0.0/99", "10.1.2.3/16", "intranet", "10.0.0.0-10.0.0.9"])
def test_a_network_that_is_none_is_refused_by_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"like 10\.1\.0\.0/16"):
        settings(outbound_allow=f"10.2.0.0/16, {wrong}")


def test_warm_shapes_are_width_height_and_frames() -> None:
    assert settings().warm_clips == ((512, 512, 16),)
    assert settings(warm_shapes="").warm_clips == ()
    asked = settings(warm_shapes="256x256x16, 704x1280x24,")
    assert asked.warm_clips == ((256, 256, 16), (704, 1280, 24))


@pytest.mark.parametrize("wrong", ["512p", "512x512", "0x512x16", "512x512x16;256x256x16"])
def test_a_warm_shape_that_is_none_is_refused_by_example(wrong: str) -> None:
    with pytest.raises(ValidationError, match="like 512x512x16"):
        settings(warm_shapes=wrong)


def test_more_warm_shapes_than_anybody_waits_for_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most 8 clips"):
        settings(warm_shapes=",".join(["512x512x16"] * 9))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": "seventy"}, "STILLREEL_PORT: it should be a whole number"),
        (
            {"lease_seconds": "10s"},
            "STILLREEL_LEASE_SECONDS: it should be a number of seconds (ten minutes are 600)",
        ),
        (
            {"min_free_bytes": "2GB"},
            "STILLREEL_MIN_FREE_BYTES: it should be a whole number of bytes (2 GB are 2000000000)",
        ),
        (
            {"trusted_admins": '["ann","bob"]'},
            "STILLREEL_TRUSTED_ADMINS: '[\"ann\"' is no login; it is a comma list, like ann,bob@",
        ),
        ({"trusted_admins": "ann;bob"}, "'ann;bob' is no login"),
        ({"port": "0"}, "STILLREEL_PORT: it should be greater than or equal to 1"),
        ({"memory": "huge"}, "STILLREEL_MEMORY: it should be 'auto', 'normal' or 'low'"),
        ({"allow_anonymous": "maybe"}, "STILLREEL_ALLOW_ANONYMOUS: it should be 0 or 1"),
        ({"public_url": "video.example.org"}, "STILLREEL_PUBLIC_URL: it begins with https://"),
        ({"max_attempts": "0"}, "STILLREEL_MAX_ATTEMPTS: it should be greater than or equal to 1"),
        ({"s3_public_endpoint": "s3.example.org"}, "STILLREEL_S3_PUBLIC_ENDPOINT: it begins with"),
        ({"hf_endpoint": "hf-mirror.com"}, "STILLREEL_HF_ENDPOINT: it begins with https://"),
        ({"log_level": "loud"}, "STILLREEL_LOG_LEVEL: 'loud' is no level; it takes DEBUG, INFO"),
        ({"rate_limit": "fast"}, "STILLREEL_RATE_LIMIT: 'fast' is no rate; it takes one like 50/"),
        (
            {"outbound_allow": "10.1.2.3/8"},
            "STILLREEL_OUTBOUND_ALLOW: '10.1.2.3/8' is no network; the nearest is 10.0.0.0/8",
        ),
        (
            {"closed_ports": "9333,70000"},
            "STILLREEL_CLOSED_PORTS: '70000' is no port; it is a comma list, like 9333,8888",
        ),
        ({"closed_ports": "http"}, "'http' is no port"),
        ({"outbound_allow": "lan"}, "'lan' is no network; one is written like 10.1.0.0/16"),
        ({"cors_origins": "a.example"}, "STILLREEL_CORS_ORIGINS: 'a.example' is no origin"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_a_wrong_setting_is_told_by_its_whole_name_with_what_would_be_right(
    wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**wrong)
    assert said in wrong_settings(refused.value)


def test_the_level_of_the_log_may_be_written_small() -> None:
    assert settings(log_level="debug").log_level == "DEBUG"


def test_a_misspelled_setting_is_told_with_the_one_that_was_meant() -> None:
    given = ["STILLREEL_PROT", "STILLREEL_PORT", "STILLREEL_BIND", "STILLREEL_XYZZY", "PATH"]
    assert list(misspelled_settings(given, Settings.model_fields)) == [
        "STILLREEL_PROT is no setting; did you mean STILLREEL_PORT?",
        "STILLREEL_XYZZY is no setting, and has no effect",
    ]


def test_a_misspelled_prefix_is_told_too_and_its_invisible_letters_are_shown() -> None:
    given = ["STILREEL_PORT", "\u200bSTILLREEL_PORT", "STILL_PORT", "STEEL_PORT", "STILLREEL"]
    assert list(misspelled_settings(given, Settings.model_fields)) == [
        "STILREEL_PORT is no setting; did you mean STILLREEL_PORT?",
        "\\u200bSTILLREEL_PORT is no setting; did you mean STILLREEL_PORT?",
    ]


def test_who_gives_a_secret_in_a_file_is_told_how_files_are_given() -> None:
    assert list(misspelled_settings(["STILLREEL_ADMIN_KEY_FILE"], Settings.model_fields)) == [
        "STILLREEL_ADMIN_KEY_FILE is no setting; to read STILLREEL_ADMIN_KEY from a file, name the"
        " file admin_key, and its folder in STILLREEL_SECRETS_DIR"
    ]
    assert not list(misspelled_settings(["STILLREEL_FAL_KEY_FILE"], Settings.model_fields))


@pytest.mark.parametrize("name", ["port", "data_dir", "s3_endpoint", "database_url", "engines"])
def test_an_empty_value_leaves_a_setting_to_the_next_source(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty DATA_DIR would mean the folder of the code, and an empty PORT is no number."""
    monkeypatch.chdir(tmp_path)
    usual = getattr(Settings(), name)
    Path(".env").write_text(f"STILLREEL_{name.upper()}=\n")
    monkeypatch.setenv(f"STILLREEL_{name.upper()}", "")
    assert getattr(Settings(), name) == usual


def test_a_home_folder_is_meant_in_a_file_as_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings(data_dir="~/clips").data_dir == tmp_path / "clips"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "database_url is not written in UTF-8; save it as UTF-8"),
        (None, "database_url cannot be read (Is a directory)"),
    ],
)
def test_a_secret_file_that_cannot_be_read_is_named(
    secrets: Path, content: bytes | None, said: str
) -> None:
    file = secrets / "database_url"
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        settings()
    assert str(refused.value) == f"STILLREEL_SECRETS_DIR: {secrets}/{said}"


def test_a_secret_file_may_begin_with_a_byte_order_mark_and_end_in_any_newline(
    secrets: Path,
) -> None:
    (secrets / "database_url").write_bytes(b"\xef\xbb\xbfpostgresql+psycopg://from-windows\r\n")
    assert settings().database_url.get_secret_value() == "postgresql+psycopg://from-windows"
