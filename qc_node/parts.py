"""What each part is told: from the settings of the node to those of its parts.

A part knows its own settings class and never :mod:`qc_node.config`.  What has a key in the configuration has its
default there and nowhere else, so the classes of the parts give none for it (a test looks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from qc_node import __version__
from qc_node.completion.decide import CompletionPolicy
from qc_node.completion.pacs_query import QUERY_TIMEOUTS, series_count
from qc_node.config import PeerSettings, Settings, rules_digest
from qc_node.dicom.association import Peer
from qc_node.domain import QcNodeError
from qc_node.engine.orders import Rule
from qc_node.engine.worker import WorkerSettings
from qc_node.http_server import HttpLimits
from qc_node.operations import logs
from qc_node.operations.notify import OF_WEBHOOK, WEBHOOK, NoticeTarget, with_environment
from qc_node.outbox.commitment import CommitmentPolicy
from qc_node.outbox.sending import Destination, RetryPolicy
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.outbox.writer import WritingSettings
from qc_node.web.settings import OidcOptions, PromptPolicy, WebOptions, load_or_make_secret
from qc_node.web.stations import NamedScanner, Stations


def completion_policy(settings: Settings) -> CompletionPolicy:
    """When series and studies count as complete."""
    c = settings.completion
    return CompletionPolicy(
        quiet_s=c.quiet_s,
        hard_cap_s=c.hard_cap_s,
        study_quiet_s=c.study_quiet_s,
        ask_pacs=c.ask_pacs and bool(settings.peers("find")),
        quiet_s_by_ae={p.ae_title: p.quiet_s for p in settings.peer if p.quiet_s is not None},
    )


def worker_settings(settings: Settings) -> WorkerSettings:
    """What the classifier process needs to know."""
    return WorkerSettings(
        data_dir=str(settings.node.data_dir.resolve()),
        models_dir=str(settings.classify.models_dir.resolve()),
        device=settings.classify.device,
        batch=settings.classify.batch,
        threads=settings.classify.threads,
        confirm_s=settings.completion.confirm_s,
        measures=settings.measures.enabled,
        window=settings.measures.window,
        sampled_share=settings.keep.sampled_share,
        keeps_pictures=settings.keep.max_gb > 0,
        rules=tuple(rule.model_dump(mode="json") for rule in settings.rule),
        logging=logs.dict_config(settings.node.log_format, settings.node.log_level),
    )


def writing_settings(settings: Settings) -> WritingSettings:
    """What every report has in common."""
    return WritingSettings(
        software_version=__version__,
        rules_digest=rules_digest(settings),
        sr_class=settings.pacs.sr_class,
        ae_title=settings.node.ae_title,
        destinations=destination_names(settings),
        classes=sr_classes(settings),
        flag_object=settings.pacs.flag_object,
        confirm_s=settings.completion.confirm_s,
        summary=settings.pacs.summary,
        report_measured_only=settings.pacs.report_measured_only,
    )


def destination_names(settings: Settings) -> tuple[str, ...]:
    """The peers that get what the node writes."""
    return (settings.pacs.destination, *settings.pacs.also) if settings.pacs.destination else ()


def sr_classes(settings: Settings) -> dict[str, str]:
    """The SR class of the reports for each destination."""
    return {
        name: settings.peer_named(name).sr_class or settings.pacs.sr_class for name in destination_names(settings)
    }


def retry_policy(settings: Settings) -> RetryPolicy:
    """How patient the outbox is; a policy of itself gives nothing up."""
    return replace(RetryPolicy(), give_up_s=settings.pacs.give_up_h * 3600)


def commitment_policy(settings: Settings) -> CommitmentPolicy:
    """How often and how long a promise is asked for; a policy of itself never ceases."""
    pacs = settings.pacs
    return replace(
        CommitmentPolicy(), attempts=pacs.commitment_attempts, give_up_s=pacs.commitment_give_up_h * 3600
    )


def destinations(settings: Settings) -> list[Destination]:
    """Where the outbox delivers to."""
    return [
        replace(
            Destination(
                DimseTransport(peer_of(settings, settings.peer_named(name))),
                storage_commitment=settings.pacs.storage_commitment,
            ),
            commitment=commitment_policy(settings),
        )
        for name in destination_names(settings)
    ]


def web_options(settings: Settings) -> WebOptions:
    """How the pages are served; without a configured secret one is made and kept in the data folder."""
    web, prompt = settings.web, settings.prompt
    return WebOptions(
        secret=web.secret or load_or_make_secret(settings.node.data_dir / "web-secret"),
        host=web.host,
        public_base=web.public_base,
        trusted_user_header=web.trusted_user_header,
        trusted_proxies=web.trusted_proxies,
        theme=web.theme,
        session_days=web.session_days,
        viewer_url=web.viewer_url,
        oidc=oidc_options(settings),
        blind=web.blind,
        frame_ancestors=web.frame_ancestors,
        stations=stations(settings),
        calls_per_day=settings.board.calls_per_day,
        vote_sr=web.vote_sr,
        fhircast_hubs=web.fhircast_hubs,
        fhircast_token=web.fhircast_token,
        prompts=PromptPolicy(**prompt.model_dump()),
        limits=HttpLimits(
            connections=web.max_connections,
            per_address=web.max_connections_per_address
            or (web.max_connections if web.public_base else _quarter(web.max_connections)),
            proxies=frozenset(web.trusted_proxies),
            request_s=web.request_s,
        ),
    )


def stations(settings: Settings) -> Stations:
    """What scanners are called."""
    return Stations(tuple(NamedScanner(s.station, s.name, s.room) for s in settings.scanner))


def targets(settings: Settings, environ: Mapping[str, str]) -> list[NoticeTarget]:
    """Whom to tell; the address of a target is completed from the environment.

    Raises
    ------
    QcNodeError
        A variable that an address names is not set.
    """
    said = [NoticeTarget(t.name, with_environment(t.url, environ), frozenset(t.events)) for t in settings.notify]
    old = [] if settings.webhook.url is None else [NoticeTarget(WEBHOOK, settings.webhook.url, OF_WEBHOOK)]
    return said + old


def oidc_options(settings: Settings) -> OidcOptions | None:
    """The OpenID provider by which readers may sign in; None without one."""
    oidc = settings.oidc
    if oidc.issuer is None:
        return None
    return OidcOptions(
        issuer=oidc.issuer,
        client_id=oidc.client_id or "",
        client_secret=oidc.client_secret,
        label=oidc.label,
        claim=oidc.claim,
        scopes=oidc.scopes,
        ca_file=oidc.ca_file,
        create_readers=oidc.create_readers,
        site=oidc.site or "",
        role_claim=oidc.role_claim,
        roles=oidc.roles,
    )


def metrics_limits(settings: Settings) -> HttpLimits:
    """How much the listener for machines gives away."""
    metrics = settings.metrics
    return HttpLimits(
        connections=metrics.max_connections,
        per_address=metrics.max_connections_per_address or _quarter(metrics.max_connections),
        proxies=frozenset(),
        request_s=metrics.request_s,
    )


def _quarter(places: int) -> int:
    """What one of many may take where nothing else is said."""
    return max(4, places // 4)


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The expectations of the department."""
    return tuple(Rule(**rule.model_dump(mode="json")) for rule in settings.rule)


def peer_of(settings: Settings, peer: PeerSettings) -> Peer:
    """A configured peer that can be called.

    Raises
    ------
    QcNodeError
        The peer has no address.
    """
    if peer.host is None or peer.port is None:
        raise QcNodeError(f"[[peer]] {peer.name} has no host and port, so nothing can be sent there.")
    return Peer(peer.name, peer.ae_title, peer.host, peer.port, settings.node.ae_title)


def pacs_asker(settings: Settings) -> Callable[[str, str], int | None]:
    """Asks the peers with the role ``find``, in order, until one answers."""
    peers = [replace(peer_of(settings, p), timeouts=QUERY_TIMEOUTS) for p in settings.peers("find")]

    def ask(study_uid: str, series_uid: str) -> int | None:
        for peer in peers:
            count = series_count(peer, study_uid, series_uid)
            if count is not None:
                return count
        return None

    return ask
