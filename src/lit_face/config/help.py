"""The text of --help, made from the config files without importing anything heavy."""

from __future__ import annotations

from lit_face.config.files import config_folder, group_options


def help_text(script: str, config_name: str, examples: str) -> str:
    """Return what `script --help` prints: usage, examples, groups with their options, all keys.

    Args:
        script: the name that the user typed, 'train.py' for example.
        config_name: the primary config, 'train' for example; its `defaults` list tells which
            groups it uses.
        examples: command lines, one a line.
    """
    folder = config_folder()
    primary = (folder / f"{config_name}.yaml").read_text()
    lines = [f"Usage: {script} [group=option ...] [key=value ...]", "", "Examples:"]
    lines += [f"  {line}" for line in examples.strip().splitlines()]
    lines += ["", "Groups and their options (group=option):"]
    for group, options in group_options(folder).items():
        if f"- {group}:" not in primary and f"- /{group}:" not in primary:
            continue
        lines += ["", f"{group}:"]
        width = max(len(option) for option in options)
        lines += [f"  {option:<{width}}  {comment}" for option, comment in options.items()]
    keys = primary.split("defaults:")[1].split("\n\n", 1)[-1].strip()
    lines += ["", f"Keys of {config_name}.yaml (key=value; any key of a chosen option too):", ""]
    lines += [f"  {line}" for line in keys.splitlines()]
    lines += ["", "--cfg job prints the composed config; --multirun (-m) sweeps over key=a,b,c."]
    return "\n".join(lines) + "\n"
