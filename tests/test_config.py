"""Settings: what is refused, and how precisely the sentence blames it."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest

from qc_node import config, intake, parts
from qc_node.config import (
    LISTS,
    Change,
    PeerSettings,
    RuleSettings,
    Settings,
    change,
    load,
    rules_digest,
    sections,
    variable_name,
)
from qc_node.config.changes import AT_ONCE
from qc_node.config.lines import find_line
from qc_node.config.settings import CompletionSettings, NodeSettings
from qc_node.domain import BodyPart, QcNodeError

PACS = '[[peer]]\nname = "PACS"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = 4242\nrole = ["send", "find"]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "qc-node.toml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(QcNodeError) as caught:
        load(write(tmp_path, text), environ or {})
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    "template",
    [
        "https://ohif/viewer?StudyInstanceUIDs={study_uid}",
        "weasis://%24dicom%3Ars%20-r%20%22accessionNumber%3D{accession_number}%22",
        "radiant://?n=paet&v=PACS&n=pstv&v=0020000D&v={study_uid}",
    ],
)
def test_a_viewer_is_named_by_what_the_series_is_called(tmp_path: Path, template: str) -> None:
    settings = load(write(tmp_path, f'[node]\ndata_dir = "{tmp_path}"\n[web]\nviewer_url = "{template}"\n'), {})
    assert parts.web_options(settings).viewer_url == template


def test_no_configuration_is_a_node_on_loopback() -> None:
    settings = load(None, {})
    assert settings.node.ae_title == "QCNODE"
    assert {settings.node.host, settings.web.host, settings.metrics.host} == {"127.0.0.1"}
    assert (settings.node.port, settings.web.port, settings.metrics.port) == (11112, 8080, 9108)
    assert settings.classify.models_dir.name in ("models", "_models")
    assert settings.pacs.destination == "" and settings.peer == ()
    assert not settings.node.accept_unknown_callers


def test_a_whole_file(tmp_path: Path) -> None:
    text = PACS + (
        '[node]\nae_title = "QC1"\ndata_dir = "/var/lib/qc-node"\n'
        '[pacs]\ndestination = "PACS"\nsr_class = "comprehensive3d"\n'
        "[completion]\nquiet_s = 3\n"
        '[[peer]]\nname = "MR1"\nae_title = "MRSCANNER"\nquiet_s = 12.5\n'
        '[[rule]]\norder = "abd.*pelvis"\nbody_part = "abdomen_pelvis"\ncontrast = true\n'
    )
    settings = load(write(tmp_path, text), {})
    assert settings.node.data_dir == Path("/var/lib/qc-node")
    assert [p.name for p in settings.peers("send")] == ["PACS"]
    assert [p.name for p in settings.peers("accept")] == ["MR1"]
    assert settings.quiet_s_of("MRSCANNER") == 12.5
    assert settings.quiet_s_of("ANYONE") == 3.0
    assert settings.rule[0].body_part is BodyPart.ABDOMEN_PELVIS


def test_each_destination_has_its_sr_class_and_the_old_key_is_for_all_others(tmp_path: Path) -> None:
    other = PACS.replace('"PACS"', '"OLD"').replace("[[peer]]\n", '[[peer]]\nsr_class = "basic-text"\n')
    both = load(write(tmp_path, PACS + other + '[pacs]\ndestination = "PACS"\nalso = ["OLD"]\n'), {})
    assert parts.sr_classes(both) == {"PACS": "comprehensive", "OLD": "basic-text"}
    assert parts.writing_settings(both).by_class() == {"comprehensive": ("PACS",), "basic-text": ("OLD",)}
    assert [d.transport.name for d in parts.destinations(both)] == ["PACS", "OLD"]
    alone = load(write(tmp_path, PACS + '[pacs]\ndestination = "PACS"\nsr_class = "comprehensive3d"\n'), {})
    assert parts.writing_settings(alone).by_class() == {"comprehensive3d": ("PACS",)}
    assert parts.writing_settings(load(None, {})).by_class() == {"comprehensive": ()}


def test_the_object_is_frozen() -> None:
    settings = load(None, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.node.port = 1


def test_unknown_key_names_file_line_and_key(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, '# a node\n[node]\nae_title = "QC"\nprot = 104\n')
    assert "qc-node.toml, line 4" in sentence
    assert "[node] prot" in sentence and "did you mean port?" in sentence


def test_unknown_section(tmp_path: Path) -> None:
    assert "line 1: unknown key metric (did you mean metrics?)" in refusal(tmp_path, "[metric]\nport = 1\n")


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ('[node]\nport = "11112"\n', "line 2: [node] port"),
        ("[node]\nport = 70000\n", "line 2: [node] port"),
        ('[node]\nae_title = "A TITLE THAT IS TOO LONG"\n', "line 2: [node] ae_title"),
        ('[pacs]\nstorage_commitment = "yes"\n', "line 2: [pacs] storage_commitment"),
        ('[pacs]\nsr_class = "basic"\n', "line 2: [pacs] sr_class"),
        ("[completion]\nquiet_s = nan\n", "line 2: [completion] quiet_s"),
        ("[completion]\nquiet_s = 700\n", "line 1: [completion] hard_cap_s"),
        ('[classify]\ndevice = "gpu"\n', "line 2: [classify] device"),
        ('[web]\nsecret = "short"\n', "line 2: [web] secret"),
        ("[disk]\nlow_watermark_gb = -1\n", "line 2: [disk] low_watermark_gb"),
        ("[retention]\nkeep_images_h = 0\n", "line 2: [retention] keep_images_h"),
        ('[pacs]\ndestination = "PACS"\n', "line 2: [pacs] destination 'PACS' is not the name of a [[peer]]"),
        (PACS + '[pacs]\ndestination = "PACS"\nalso = ["B"]\n', "[pacs] also 'B' is not the name of a [[peer]]"),
        (PACS + '[pacs]\ndestination = "PACS"\nalso = ["PACS"]\n', "[pacs] also names a destination twice"),
        (PACS + '[pacs]\nalso = ["PACS"]\n', "[pacs] also needs a destination"),
        (PACS + 'sr_class = "enhanced"\n', "line 7: [[peer]] sr_class"),
        (PACS + PACS, "line 8: [[peer]] name 'PACS' is used twice"),
        (PACS + '[[peer]]\nname = "X"\nae_title = "X"\nrole = ["send"]\n', "line 7: [[peer]] host is missing"),
        ('[[peer]]\nname = "A"\nae_title = "X"\n' * 2, "name 'A' is used twice"),
        (
            '[[peer]]\nname = "A"\nae_title = "X"\n[[peer]]\nname = "B"\nae_title = "X"\n',
            "line 6: [[peer]] ae_title 'X' is used by two peers with the role accept",
        ),
        (PACS + '[[peer]]\nname = "X"\n', "line 7: [[peer]] ae_title is missing"),
        (PACS + '[[peer]]\nname = "X"\nae_title = "X"\nrole = ["store"]\n', "line 10: [[peer]] role"),
        ('[[rule]]\norder = "("\nseries = ["a"]\n', "line 2: [[rule]] order must be a regular expression"),
        ('[[rule]]\norder = "head"\n', "line 2: [[rule]] order has no expectation"),
        ("[web]\nport = 9108\n", "9108 is already the port of [web]"),
        ('[webhook]\nurl = "localhost"\n', "line 2: [webhook] url must be a http:// or https:// address"),
        *(
            (f'[web]\nviewer_url = "{template}"\n', f"line 2: [web] viewer_url {sentence}")
            for template, sentence in (
                ("javascript:alert({study_uid})", "must begin with http:, https:, weasis:"),
                ("file:///etc/{study_uid}", "must begin with"),
                ("//ohif/{study_uid}", "must begin with"),
                ("https://ohif/viewer?StudyInstanceUIDs={study}", "has {study}; known are {study_uid}"),
                ("https://ohif/viewer?StudyInstanceUIDs={study_uid", "has a single brace"),
                ("https://ohif/viewer", "must have one of {study_uid}"),
                ("https://{accession_number}/viewer", "must name the viewer's host"),
                ("https:ohif/{study_uid}", "must name the viewer's host"),
                ("https://ohif/ {study_uid}", "must begin with"),
            )
        ),
        ("[prompt]\nrandom_share = 5\n", "line 2: [prompt] random_share"),
        ("[node\n", "is not valid TOML"),
        ("node = 3\n", "line 1: node"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, text: str, blamed: str) -> None:
    assert blamed in refusal(tmp_path, text)


def test_the_secret_is_never_printed(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, '[web]\nsecret = "hunter2"\n')


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(QcNodeError, match=r"nowhere\.toml cannot be read"):
        load(tmp_path / "nowhere.toml", {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "QC_NODE_NODE__PORT": "104",
        "QC_NODE_NODE__AE_TITLE": "12345",
        "QC_NODE_COMPLETION__ASK_PACS": "false",
        "QC_NODE_NODE__DATA_DIR": "/data",
        "QC_NODE_WEB__SECRET": "12345678901234567890123456789012",
        "QC_NODE_PEER": json.dumps([{"name": "CT1", "ae_title": "CTSCANNER"}]),
        "QC_NODE_PORT": "tcp://10.0.0.1:80",
        "QC_NODE_REQUIRE_PEERS": "1",
        "HOME": "/root",
    }
    settings = load(write(tmp_path, "[node]\nport = 11113\n" + PACS), environ)
    assert settings.node.port == 104
    assert settings.node.ae_title == "12345"
    assert settings.node.data_dir == Path("/data")
    assert settings.completion.ask_pacs is False
    assert settings.web.secret == "12345678901234567890123456789012"
    assert [p.name for p in settings.peer] == ["CT1"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QC_NODE_NODE__PORT", "dicom"),
        ("QC_NODE_NODE__PROT", "104"),
        ("QC_NODE_NODES__PORT", "104"),
        ("QC_NODE_PEER", "[{]"),
        ("QC_NODE_PEER", '[{"name": "X"}]'),
        ("QC_NODE_PEER", '{"name": "X"}'),
        ("QC_NODE_PEER__NAME", "X"),
        ("QC_NODE_COMPLETION__ASK_PACS", "no"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str) -> None:
    assert f"The environment variable {variable}" in refusal(tmp_path, "[node]\nport = 11113\n", {variable: value})


def test_every_setting_can_be_overridden_by_the_environment() -> None:
    defaults = Settings()
    for section, model in sections().items():
        if section in LISTS:
            continue
        for key in model.model_fields:
            value = getattr(getattr(defaults, section), key)
            if value is None:
                continue
            text = json.dumps(value) if isinstance(value, (bool, tuple)) else str(value)
            settings = load(None, {variable_name(section, key): text})
            assert getattr(getattr(settings, section), key) == value, (section, key)


def test_rules_digest_changes_with_the_rules_only(tmp_path: Path) -> None:
    rule = '[[rule]]\norder = "head"\nbody_part = "brain"\n'
    first = rules_digest(load(write(tmp_path, rule), {}))
    assert first == rules_digest(load(write(tmp_path, "[node]\nport = 1042\n" + rule), {}))
    assert first != rules_digest(load(write(tmp_path, rule + "contrast = false\n"), {}))
    assert first != rules_digest(Settings())


def test_find_line_in_awkward_toml() -> None:
    text = 'a = """\n[node]\nport = 1\n"""\nnode.port = 2\n[ web ]\n"port" = 3\n[[peer]]\n[[peer]]\nname = "x"\n'
    assert find_line(text, ("node", "port")) == 5
    assert find_line(text, ("web", "port")) == 7
    assert find_line(text, ("peer", 1, "name")) == 10
    assert find_line(text, ("peer", 0, "name")) == 8
    assert find_line(text, ("metrics", "port")) is None


def test_no_setting_is_without_effect() -> None:
    """Each key is read where the node is put together, or its section goes there as a whole."""
    package = Path(config.__file__).resolve().parents[1]
    readers = ("node.py", "intake.py", "parts.py", "cli/classify.py")
    text = "".join((package / name).read_text(encoding="utf-8") for name in readers)
    read = set(re.findall(r"\.(\w+)\b", text))
    read |= {"role"} if ".peers(" in text else set()
    read |= {"low_watermark_gb"} if ".low_watermark_bytes" in text else set()
    whole = set(re.findall(r"\b(\w+)\.model_dump\(", text))
    keys = {(section, key) for section, model in sections().items() for key in model.model_fields}
    assert sorted((section, key) for section, key in keys if key not in read and section not in whole) == []


def classes_of_parts() -> dict[str, tuple[type, set[str] | None]]:
    """Every dataclass that qc_node/parts.py and intake.py make, with the fields that they fill (None: all)."""
    found: dict[str, tuple[type, set[str] | None]] = {}
    for module in (parts, intake):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                made = getattr(module, node.func.id, None)
                if isinstance(made, type) and is_dataclass(made):
                    names = [keyword.arg for keyword in node.keywords]
                    found[made.__name__] = (made, None if None in names else {n for n in names if n})
    return found


def test_the_parts_are_told_everything() -> None:
    assert {"ReceiverSettings", "CompletionPolicy", "WorkerSettings", "WritingSettings"} <= set(classes_of_parts())
    assert {"Destination", "WebOptions", "PromptPolicy", "Rule"} <= set(classes_of_parts())


@pytest.mark.parametrize("name", classes_of_parts())
def test_a_configured_setting_has_its_default_in_the_configuration_only(name: str) -> None:
    made, filled = classes_of_parts()[name]
    for field in fields(made):
        if filled is None or field.name in filled:
            has_default = field.default is not MISSING or field.default_factory is not MISSING
            assert not has_default, f"{name}.{field.name} has a second default beside the one in qc_node/config"


def test_idle_times_reach_the_receiver_by_calling_title(tmp_path: Path) -> None:
    text = "[node]\nidle_s = 60\n" + "".join(
        f'[[peer]]\nname = "{name}"\nae_title = "{name}"\nrole = ["{role}"]\nhost = "x"\nport = 1\n{more}\n'
        for name, role, more in (("A", "accept", "idle_s = 600"), ("B", "accept", ""), ("C", "send", "idle_s = 5"))
    )
    told = intake.receiver_settings(load(write(tmp_path, text), {}))
    assert (told.idle_s, told.idle_s_by_ae) == (60.0, {"A": 600.0})


@pytest.mark.parametrize(
    ("web", "limit"),
    [
        ("", 125),
        ("max_connections = 8", 4),
        ("max_connections_per_address = 7", 7),
        ('public_base = "https://qc.example"', 500),
        ('public_base = "https://qc.example"\nmax_connections_per_address = 7', 7),
    ],
)
def test_a_proxy_in_front_is_no_crowd(tmp_path: Path, web: str, limit: int) -> None:
    settings = load(write(tmp_path, f'[node]\ndata_dir = "{tmp_path}"\n[web]\n{web}\n'), {})
    limits = parts.web_options(settings).limits
    assert limits.per_address == limit
    assert limits.proxies == {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("associations", "said", "limit"), [(50, None, 12), (8, None, 4), (2, None, 4), (50, 1, 1), (50, 50, 50)]
)
def test_one_peer_may_have_a_quarter_of_the_associations(associations: int, said: int | None, limit: int) -> None:
    node = NodeSettings(max_associations=associations, max_associations_per_peer=said)
    assert intake.receiver_settings(Settings(node=node)).max_associations_per_peer == limit


# -- read again while the node runs ----------------------------------------------------------------------
SCANNER = PeerSettings(name="MRI", ae_title="MRI1")


def test_nothing_changes_when_nothing_was_changed() -> None:
    settings = Settings(peer=(SCANNER,))
    assert change(settings, settings) == Change(settings)


def test_what_may_change_at_once_changes_and_the_rest_waits() -> None:
    rules = (RuleSettings(order="head", contrast=True),)
    old = Settings(peer=(SCANNER,))
    new = Settings(
        node=NodeSettings(log_level="debug", port=4242),
        completion=CompletionSettings(quiet_s=9.0),
        peer=(PeerSettings(name="MRI", ae_title="MRI2", quiet_s=20.0),),
        rule=rules,
    )
    told = change(old, new)
    assert told.applied == ("[node] log_level", "[completion] quiet_s", "[[peer]] MRI quiet_s", "[[rule]]")
    assert told.waiting == ("[node] port", "[[peer]] MRI ae_title")
    assert (told.settings.node.log_level, told.settings.node.port) == ("debug", 11112)
    assert told.settings.completion.quiet_s == 9.0 and told.settings.rule == rules
    assert told.settings.peer == (PeerSettings(name="MRI", ae_title="MRI1", quiet_s=20.0),)
    assert change(told.settings, new).applied == (), "what was taken over is not taken over again"
    assert change(told.settings, new).waiting == told.waiting, "what waits is named again"


def test_a_peer_more_or_less_waits_for_a_restart() -> None:
    told = change(Settings(peer=(SCANNER,)), Settings(peer=(PeerSettings(name="CT", ae_title="CT1"),)))
    assert told.waiting == ("[[peer]] MRI", "[[peer]] CT") and told.settings.peer == (SCANNER,)


def test_every_key_that_changes_at_once_is_a_key() -> None:
    for section, keys in AT_ONCE.items():
        assert keys <= set(sections()[section].model_fields), section
