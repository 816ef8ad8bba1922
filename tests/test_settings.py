"""Settings: from the environment and devpipe.toml, strict, and never shown with their secrets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from devpipe.cli.check import unread_variables
from devpipe.config.settings import Settings
from devpipe.errors import ConfigError

ALL_PROCEDURAL = {
    "translate": "procedural",
    "interception": "procedural",
    "judge": "",
    "split": "procedural",
}


def load(home: Path, toml: str = "", **environ: str) -> Settings:
    (home / "devpipe.toml").write_text(toml)
    return Settings.load(home, environ, backends=["ollama", "openrouter"])


def faults(home: Path, toml: str = "", **environ: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(home, toml, **environ)
    return {f"{fault.file} {fault.path}": fault.message for fault in caught.value.faults}


def test_without_anything_everything_is_procedural(tmp_path: Path) -> None:
    """No file, no variable: youth, full provenance, no budget, the embedded default, recordings in
    the workspace.
    """
    settings = Settings.load(tmp_path, {})

    assert (tmp_path, tmp_path / "recordings") == (settings.home, settings.recordings)
    assert (settings.safety, settings.provenance, settings.budget_usd, settings.models) == (
        "youth",
        "full",
        None,
        ALL_PROCEDURAL,
    )


def test_the_file_is_read(tmp_path: Path) -> None:
    """devpipe.toml says what the machine does."""
    toml = (
        'safety = "kids"\nprovenance = "mark"\nbudget_usd = 5\nrecordings = "r"\n[models]\njudge ='
        ' "ollama/llama-guard3:1b"'
    )
    settings = load(tmp_path, toml)

    assert ("kids", "mark", 5.0, tmp_path / "r") == (
        settings.safety,
        settings.provenance,
        settings.budget_usd,
        settings.recordings,
    )
    assert settings.models == ALL_PROCEDURAL | {"judge": "ollama/llama-guard3:1b"}


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """Each variable replaces its own line only; an empty one says nothing."""
    toml = 'safety = "kids"\nbudget_usd = 5\n[models]\ntranslate = "ollama/a"\nsplit = "ollama/b"'
    environ = {
        "DEVPIPE_SAFETY": "research", "DEVPIPE_BUDGET_USD": "0.5", "DEVPIPE_RECORDINGS": str(tmp_path / "else"),
        "DEVPIPE_MODEL_TRANSLATE": "openrouter/openai/gpt-5", "DEVPIPE_MODEL_INTERCEPTION": " ", "DEVPIPE_PROVENANCE": "mark",
    }  # fmt: skip
    settings = load(tmp_path, toml, **environ)

    assert ("research", 0.5, tmp_path / "else", "mark") == (
        settings.safety,
        settings.budget_usd,
        settings.recordings,
        settings.provenance,
    )
    assert settings.models == ALL_PROCEDURAL | {
        "translate": "openrouter/openai/gpt-5",
        "split": "ollama/b",
    }


def test_a_relative_folder_is_seen_from_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook and a shell in different folders write to the same place."""
    monkeypatch.chdir("/")

    assert tmp_path / "r" == load(tmp_path, DEVPIPE_RECORDINGS="r").recordings


def test_the_procedural_judge_is_none(tmp_path: Path) -> None:
    """No procedure can judge: the rules then stand alone."""
    assert load(tmp_path, DEVPIPE_MODEL_JUDGE="procedural").models["judge"] == ""


def test_the_workspace_and_the_environment_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments: DEVPIPE_HOME and the variables of the process."""
    for folder in ("pipelines", "output_configs"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("DEVPIPE_HOME", str(tmp_path))
    monkeypatch.setenv("DEVPIPE_SAFETY", "adult")

    assert (tmp_path, "adult") == (Settings.load().home, Settings.load().safety)


def test_all_faults_of_both_are_listed(tmp_path: Path) -> None:
    """Each names its line or its variable, what is allowed and the nearest right name."""
    toml = (
        'safty = "kids"\nprovenance = "none"\nbudget_usd = -1\n[models]\njugde = "ollama/x"\nsplit'
        ' = "olama/x"'
    )
    environ = {
        "DEVPIPE_SAFETY": "yuth",
        "DEVPIPE_BUDGET_USD": "five",
        "DEVPIPE_MODEL_JUDGE": "ollama/",
    }
    found = faults(tmp_path, toml, **environ)

    assert "did you mean 'youth'? Allowed: adult, kids, research, youth." in found.pop(
        "environment DEVPIPE_SAFETY"
    )
    assert '"five"' in found.pop("environment DEVPIPE_BUDGET_USD")
    assert "must be backend/model, not 'ollama'" in found.pop("environment DEVPIPE_MODEL_JUDGE")
    assert "did you mean 'safety'" in found.pop("devpipe.toml $.safty")
    assert "Allowed: full, mark" in found.pop("devpipe.toml $.provenance")
    assert "greater than or equal to 0" in found.pop("devpipe.toml $.budget_usd")
    assert "did you mean 'judge'" in found.pop("devpipe.toml $.models.jugde")
    assert "did you mean 'ollama'" in found.pop("devpipe.toml $.models.split")
    assert found == {}


@pytest.mark.parametrize("budget", ["nan", "inf", "-1", "5,0"])
def test_a_budget_is_a_number(tmp_path: Path, budget: str) -> None:
    """A budget that limits nothing is refused."""
    assert list(faults(tmp_path, DEVPIPE_BUDGET_USD=budget)) == ["environment DEVPIPE_BUDGET_USD"]


@pytest.mark.parametrize(
    "line", ['OPENAI_API_KEY = "sk-1"', 'api_key = "sk-1"', '[models]\nollama_token = "sk-1"']
)
def test_keys_do_not_belong_in_the_file(tmp_path: Path, line: str) -> None:
    """The file is shared and committed: a key in it is refused, and not repeated in the message."""
    (message,) = faults(tmp_path, line).values()

    assert "keys belong in the environment" in message and "sk-1" not in message


@pytest.mark.parametrize(
    "data",
    [b"safety = ", b"safety = 'k\xe4ds'", b"models = 3"],
    ids=["syntax", "latin-1", "no table"],
)
def test_a_broken_file_is_one_fault(tmp_path: Path, data: bytes) -> None:
    """It is named, and no default silently takes its place: the level might be lower than the
    person wrote.
    """
    (tmp_path / "devpipe.toml").write_bytes(data)

    with pytest.raises(ConfigError, match=r"devpipe\.toml"):
        Settings.load(tmp_path, {"DEVPIPE_MODEL_SPLIT": "procedural"})


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """Here: a folder of that name."""
    (tmp_path / "devpipe.toml").mkdir()

    with pytest.raises(ConfigError, match="cannot be read"):
        Settings.load(tmp_path, {})


def test_a_variable_nobody_reads_is_found(tmp_path: Path) -> None:
    """`devpipe check` names it with the nearest right one; it stops nothing."""
    settings = load(
        tmp_path,
        DEVPIPE_SAFTEY="kids",
        DEVPIPE_HOME="/x",
        DEVPIPE_PROCEDURAL_URL="x",
        DEVPIPE_MODEL_JUDGE="",
        OTHER="x",
    )

    (fault,) = unread_variables(settings)
    assert (fault.file, fault.path) == ("environment", "DEVPIPE_SAFTEY")
    assert "did you mean 'DEVPIPE_SAFETY'" in fault.message


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    """Under their owner's name, without the line break that copying adds; an absent or empty one is
    None.
    """
    settings = load(tmp_path, OPENAI_API_KEY="sk-123456\n", EMPTY_API_KEY=" ")

    assert [
        settings.key(name) for name in ("OPENAI_API_KEY", "EMPTY_API_KEY", "OTHER_API_KEY")
    ] == ["sk-123456", None, None]


KEYRING = """
class errors:
    class KeyringError(Exception): ...
def get_password(service, name):
    if name == "LOCKED_API_KEY":
        raise errors.KeyringError
    return {("devpipe", "REPLICATE_API_TOKEN"): "r8-from-keyring"}.get((service, name))
"""


def test_keys_come_from_the_keyring_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key found there is a secret like the others; a locked keyring has none; the environment
    goes first.
    """
    (tmp_path / "keyring.py").write_text(KEYRING)
    monkeypatch.syspath_prepend(tmp_path)
    settings = load(tmp_path, OPENAI_API_KEY="sk-123456")

    assert [
        settings.key(name)
        for name in ("OPENAI_API_KEY", "REPLICATE_API_TOKEN", "LOCKED_API_KEY", "OTHER_API_KEY")
    ] == [
        "sk-123456",
        "r8-from-keyring",
        None,
        None,
    ]
    assert settings.secrets() == ("r8-from-keyring", "sk-123456")


def test_addresses_have_an_order(tmp_path: Path) -> None:
    """DEVPIPE_<BACKEND>_URL, then the owner's variable, then the backend's own default."""
    owner = {
        "OLLAMA_HOST": "http://gpu:11434",
        "OPENAI_BASE_URL": "http://vllm/v1",
        "COMFYUI_URL": "http://a:8188,http://b:8188",
    }

    settings = load(tmp_path, DEVPIPE_OLLAMA_URL="http://mine", **owner)
    assert ["http://mine", "http://vllm/v1", owner["COMFYUI_URL"], "http://default"] == [
        settings.url(backend, "http://default")
        for backend in ("ollama", "openai", "comfyui", "stability")
    ]


def test_secrets_are_all_that_must_not_be_written(tmp_path: Path) -> None:
    """Keys, tokens, secrets, passwords and what stands before @ in addresses, also decoded; the
    longest first.
    """
    environ = {
        "OPENAI_API_KEY": "sk-openai-1", "REPLICATE_API_TOKEN": "r8-token-1\n", "CLIENT_SECRET": "secret-value",
        "DB_PASSWORD": "a long one",
        "COMFYUI_URL": "http://ann:p%40sswo%3Ard@gpu:8188,https://bob-token@gpu2", "OLLAMA_HOST": "carl:carlcarl@gpu", "BAD_URL": "http://[x@y",
        "PIN_PASSWORD": "1234", "HOME": "/home/ann", "KEYBOARD": "qwertz-layout",
    }  # fmt: skip
    found = load(tmp_path, **environ).secrets()

    assert {
        "sk-openai-1", "r8-token-1", "secret-value", "a long one", "ann:p%40sswo%3Ard", "ann:p@sswo:rd", "p%40sswo%3Ard",
        "p@sswo:rd", "bob-token", "carl:carlcarl", "carlcarl",
    } == set(found)  # fmt: skip
    assert [len(secret) for secret in found] == sorted(
        (len(secret) for secret in found), reverse=True
    )


def test_settings_never_show_the_environment(tmp_path: Path) -> None:
    """Printing them in a notebook shows no key."""
    settings = load(tmp_path, OPENAI_API_KEY="sk-openai-1")
    settings.key("OPENAI_API_KEY")

    assert "sk-openai-1" not in repr(settings) + str(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.safety = "research"  # type: ignore[misc]


# Chains of models, and how far a text may go.


def test_a_task_may_name_a_chain(tmp_path: Path) -> None:
    """In the order in which they are asked, as one text in a variable, as one text or a list in the
    file; spelled one way.
    """
    toml = (
        '[models]\ntranslate = "ollama/a,openrouter/b"\njudge = ["eu: ollama/guard:1b",'
        ' "openrouter/x"]\nsplit = ["ollama/a", "procedural"]'
    )
    models = load(
        tmp_path, toml, DEVPIPE_MODEL_INTERCEPTION=" local :ollama/llama3:8b , procedural "
    ).models

    assert models == {
        "translate": "ollama/a, openrouter/b", "judge": "eu: ollama/guard:1b, openrouter/x", "split": "ollama/a, procedural",
        "interception": "local: ollama/llama3:8b, procedural",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "workspace", "holds"),
    [
        ("", "local", "local: "), ("eu: ", "local", "local: "), ("local: ", "eu", "local: "),
        ("world: ", "eu", "eu: "), ("eu: ", "world", "eu: "), ("", "world", ""),
    ],
)  # fmt: skip
def test_the_workspaces_boundary_holds_for_every_chain(
    tmp_path: Path, own: str, workspace: str, holds: str
) -> None:
    """The stricter one counts, from the file, the environment and for settings that are made by
    hand.
    """
    by_file = load(tmp_path, f'boundary = "{workspace}"\n[models]\njudge = "{own}ollama/x"')
    by_variable = load(tmp_path, DEVPIPE_BOUNDARY=workspace, DEVPIPE_MODEL_JUDGE=f"{own}ollama/x")
    by_hand = dataclasses.replace(
        Settings.load(tmp_path, {}), boundary=workspace, models={"judge": f"{own}ollama/x"}
    )  # type: ignore[arg-type]

    assert [one.models["judge"] for one in (by_file, by_variable, by_hand)] == [
        f"{holds}ollama/x"
    ] * 3
    assert by_file.boundary == workspace and by_file.models["interception"] == "procedural"


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (
            "lokal: ollama/x",
            "there is no boundary 'lokal'; did you mean 'local'? Allowed: eu, local, world.",
        ),
        ("local:", "names no model after 'local:'"),
        ("ollama/x, olama/y", "there is no backend 'olama'; did you mean 'ollama'"),
        ("ollama/x, openrouter", "must be backend/model, not 'openrouter'"),
        ("ollama/x,, openrouter/y", "there is no backend ''"),
        ("local: eu: ollama/x", "there is no backend 'eu: ollama'"),
        ("procedural, ollama/x", "may only stand last"),
        ("ollama:latest", "there is no backend 'ollama:latest'; did you mean 'ollama'"),
    ],
)
@pytest.mark.parametrize("task", ["interception", "split"])
def test_faults_of_a_chain_are_named(tmp_path: Path, models: str, said: str, task: str) -> None:
    """With the place, in the file and in the environment."""
    (place, message), *_ = faults(tmp_path, f'[models]\n{task} = "{models}"').items()
    assert place == f"devpipe.toml $.models.{task}" and said in message
    ((place, message),) = faults(tmp_path, **{f"DEVPIPE_MODEL_{task.upper()}": models}).items()
    assert place == f"environment DEVPIPE_MODEL_{task.upper()}" and said in message


@pytest.mark.parametrize("task", ["translate", "judge"])
def test_no_procedure_stands_in_for_a_translator_or_a_judge(tmp_path: Path, task: str) -> None:
    """A word list is no translation, and no procedure can say that a text is harmless."""
    found = faults(tmp_path, **{f"DEVPIPE_MODEL_{task.upper()}": "ollama/x, procedural"})
    assert "only for interception and split" in found[f"environment DEVPIPE_MODEL_{task.upper()}"]


@pytest.mark.parametrize(
    "line", ["judge = [1]", 'judge = [["ollama/x"]]', "judge = {a = 1}", "judge = true"]
)
def test_a_chain_is_made_of_texts(tmp_path: Path, line: str) -> None:
    """Anything else is a fault with its place."""
    assert "devpipe.toml $.models.judge" in faults(tmp_path, f"[models]\n{line}")


@pytest.mark.parametrize(
    ("toml", "environ", "place"),
    [
        ('boundary = "germany"', {}, "devpipe.toml $.boundary"),
        ("", {"DEVPIPE_BOUNDARY": "Local"}, "environment DEVPIPE_BOUNDARY"),
        ("judge_seconds = 0", {}, "devpipe.toml $.judge_seconds"),
        ("", {"DEVPIPE_JUDGE_SECONDS": "601"}, "environment DEVPIPE_JUDGE_SECONDS"),
        ("", {"DEVPIPE_JUDGE_SECONDS": "nan"}, "environment DEVPIPE_JUDGE_SECONDS"),
        ("", {"DEVPIPE_OLLAMA_REGION": "de"}, "environment DEVPIPE_OLLAMA_REGION"),
        ("", {"DEVPIPE_ANYTHING_REGION": "EU"}, "environment DEVPIPE_ANYTHING_REGION"),
    ],
)
def test_a_boundary_that_is_none_stops_everything(
    tmp_path: Path, toml: str, environ: dict[str, str], place: str
) -> None:
    """Nothing runs with less privacy than was meant."""
    assert list(faults(tmp_path, toml, **environ)) == [place]


def test_the_judges_patience_is_set(tmp_path: Path) -> None:
    """Eight seconds, or as the person says."""
    found = [
        load(tmp_path),
        load(tmp_path, "judge_seconds = 3"),
        load(tmp_path, "judge_seconds = 3", DEVPIPE_JUDGE_SECONDS="2.5"),
    ]
    assert [settings.judge_seconds for settings in found] == [8.0, 3.0, 2.5]


def test_a_server_is_where_the_person_says(tmp_path: Path) -> None:
    """By backend; None where nobody says."""
    settings = load(tmp_path, DEVPIPE_OLLAMA_REGION=" eu ", DEVPIPE_OPENROUTER_REGION="")
    assert [settings.region(name) for name in ("ollama", "openrouter", "other")] == [
        "eu",
        None,
        None,
    ]


def test_the_new_variables_are_known(tmp_path: Path) -> None:
    """`devpipe check` complains of none of them, and of the misspelt one."""
    known = {
        "DEVPIPE_BOUNDARY": "eu",
        "DEVPIPE_JUDGE_SECONDS": "5",
        "DEVPIPE_PROCEDURAL_REGION": "local",
        "OLLAMA_API_KEY": "sk-123456",
    }
    (fault,) = unread_variables(load(tmp_path, **known, DEVPIPE_BOUNDRY="eu"))
    assert fault.path == "DEVPIPE_BOUNDRY" and "did you mean 'DEVPIPE_BOUNDARY'" in fault.message
