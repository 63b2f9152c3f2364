"""The command line: parses, calls, prints.  No logic lives here.

Exit codes: 0 done, 1 something failed and said so, 2 wrong usage.  Each family of commands has a module of its
own, imported when one of them is asked for, and heavy libraries are imported inside the commands: ``--help``
answers at once.
"""

from __future__ import annotations

import sys
import traceback

import click

from qc_node import __version__
from qc_node.cli.shared import LazyGroup
from qc_node.domain.errors import QcNodeError

COMMANDS = {
    "backup": ("backup:backup", "Make or renew a backup in FOLDER while the node runs."),
    "classify": ("classify:classify", "Judge series on disk: DICOM, folders, zip or tar archives, NIfTI."),
    "demo": ("node:demo", "Show the whole way of a series on this machine, with made-up images."),
    "doctor": ("node:doctor", "Check configuration, clock, disk, ledger, models, ports and peers."),
    "drain": ("node:drain", "Have the running node take nothing new and finish; say when it may be stopped."),
    "evaluate": ("training:evaluate", "Measure networks on people they never saw."),
    "forget": ("forget:forget", "Remove everything that the node holds of a patient or a study, for ever."),
    "judge-again": ("outbox:judge_again", "Judge series once more, with the models and rules now in force."),
    "measures": ("measures:measures", "Export what was measured of every series."),
    "models": ("models:models", "List and verify the weights."),
    "notify": ("notify:notify", "Try whether those who are told what happened can be reached."),
    "outbox": ("outbox:outbox", "Look at what was not delivered, send it again, or let it be."),
    "readers": ("readers:readers", "Those who may vote: add, list, disable, enable, change."),
    "restore": ("backup:restore", "Put the backup in FOLDER back, while no node runs."),
    "relink": ("relink:relink", "Have reports carry corrected identifiers of a patient or a study."),
    "review": ("review:review", "Open the analyst page on a folder of your own."),
    "run": ("node:run", "Run the node until SIGTERM or Ctrl-C."),
    "send": ("outbox:send", "Push DICOM files to a configured peer by C-STORE."),
    "train": ("training:train", "Train the networks of a classifier."),
    "votes": ("votes:votes", "Export, import and count votes."),
}
"""Every command: where it is below this package, and the first line of its help."""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    lazy={name: (f"{__package__}.{place}", line) for name, (place, line) in COMMANDS.items()},
)
@click.version_option(__version__, prog_name="qc-node")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main_group(debug: bool) -> None:  # debug is read by main()
    """Judge the quality of medical images while the patient is still on the table.

    Start with `qc-node demo`; then write a qc-node.toml (deploy/qc-node.toml explains every option),
    check it with `qc-node doctor` and start the node with `qc-node run`.
    """


def main(argv: list[str] | None = None) -> None:
    """Entry point: run a command and turn errors into one sentence and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]  # allowed before and after the command
    try:
        main_group.main(args=words, prog_name="qc-node", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except QcNodeError as error:
        _fail(f"qc-node: {error}", debug)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        where = "run again with --debug to see where"
        _fail(f"qc-node: unexpected {type(error).__name__}: {error} ({where})", debug)


def _fail(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(sentence, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
