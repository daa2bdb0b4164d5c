"""Which boards are on the USB, and what of the operating system belongs to them."""

import os
from dataclasses import dataclass
from pathlib import Path

from hdl.boards.board import Board

SYSFS = Path("/sys/bus/usb/devices")
DEVICES = Path("/dev/bus/usb")


class UsbError(ValueError):
    """The board is not there or not to be used. One line that says why, and what to do."""


@dataclass(frozen=True)
class UsbDevice:
    """A device: the product text that it gives, its node, and the serial ports that it has, the last one last."""

    text: str
    node: Path
    ports: tuple[Path, ...]


def find_devices(board: Board, sysfs: Path = SYSFS, devices: Path = DEVICES) -> list[UsbDevice]:
    """Devices with the ids of the board's programmer, whichever board they are on."""
    found: list[UsbDevice] = []
    if board.usb is None:
        return found
    for folder in sorted(sysfs.iterdir()) if sysfs.is_dir() else []:
        ids = [_read(folder / name) for name in ("idVendor", "idProduct")]
        if ids != [f"{board.usb.vendor:04x}", f"{board.usb.product:04x}"]:
            continue
        node = devices / f"{int(_read(folder / 'busnum')):03}" / f"{int(_read(folder / 'devnum')):03}"
        ports = sorted(Path("/dev") / port.name for port in folder.glob(f"{folder.name}:*/tty*[0-9]"))
        found.append(UsbDevice(_read(folder / "product"), node, tuple(ports)))
    return found


def find_board(board: Board, sysfs: Path = SYSFS, devices: Path = DEVICES) -> UsbDevice:
    """The one device of this board. Raises :class:`UsbError` where it is not there, another board is, there are several, or
    this user may not write to it."""
    if board.usb is None:
        raise UsbError(f"{board.name} is not programmed over USB")
    ids = f"{board.usb.vendor:04x}:{board.usb.product:04x}"
    candidates = find_devices(board, sysfs, devices)
    if not candidates:
        raise UsbError(f"no board: no USB device {ids} ({board.title}): is it plugged in and powered?")
    ours = [device for device in candidates if board.usb.text.lower() in device.text.lower()]
    if not ours:
        others = ", ".join(f"'{device.text}'" for device in candidates)
        raise UsbError(f"wrong board: {others} is there, no {board.title} ('{board.usb.text}' in its product text)")
    if len(ours) > 1:
        nodes = ", ".join(str(device.node) for device in ours)
        raise UsbError(f"{len(ours)} boards of this kind are plugged in ({nodes}): leave one")
    [device] = ours
    if not os.access(device.node, os.W_OK):
        raise UsbError(
            f"no permission on {device.node}: tickgate boards --udev | sudo tee /etc/udev/rules.d/99-tickgate.rules, "
            "sudo udevadm control --reload, then plug the board in again"
        )
    return device


def udev_rules(boards: list[Board]) -> str:
    """Rules that give whoever sits at the machine the boards' programmers and serial ports."""
    ids = sorted({(board.usb.vendor, board.usb.product) for board in boards if board.usb})
    lines = ["# Dev boards of Tickgate: `tickgate boards --udev` writes this."]
    for vendor, product in ids:
        match = f'ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}"'
        lines += [
            f'SUBSYSTEM=="usb", {match}, MODE="0660", GROUP="plugdev", TAG+="uaccess"',
            f'SUBSYSTEM=="tty", {match}, MODE="0660", GROUP="dialout", TAG+="uaccess"',
        ]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
