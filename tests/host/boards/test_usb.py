"""Boards are found among what the operating system says of the USB."""

from pathlib import Path

import pytest

from hdl.boards import BOARDS, find_board
from host.boards.usb import UsbError, udev_rules
from host.boards.usb import find_board as find

BOARD = find_board("ulx3s_12f")


class Machine:
    """A USB as the kernel's files describe it."""

    def __init__(self, folder: Path) -> None:
        self.sysfs, self.devices = folder / "sys", folder / "dev"
        self.sysfs.mkdir()
        self._count = 0

    def plug_in(self, vendor: str, product: str, text: str, *, mode: int = 0o600, ports: tuple[str, ...] = ()) -> Path:
        """A device; its node."""
        self._count += 1
        folder = self.sysfs / f"1-{self._count}"
        folder.mkdir()
        said = {"idVendor": vendor, "idProduct": product, "product": text, "busnum": "1", "devnum": str(self._count)}
        for name, value in said.items():
            (folder / name).write_text(f"{value}\n")
        for n, port in enumerate(ports):
            (folder / f"{folder.name}:1.{n}" / port).mkdir(parents=True)
        node = self.devices / "001" / f"{self._count:03}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        node.chmod(mode)
        return node

    def find(self):
        return find(BOARD, self.sysfs, self.devices)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_board_is_found_with_its_ports(machine):
    machine.plug_in("046d", "c31c", "USB Keyboard")
    node = machine.plug_in("0403", "6015", "ULX3S FPGA 12K v3.0.8", ports=("ttyUSB4",))
    device = machine.find()
    assert (device.text, device.node, device.ports) == ("ULX3S FPGA 12K v3.0.8", node, (Path("/dev/ttyUSB4"),))


def test_no_board(machine):
    machine.plug_in("046d", "c31c", "USB Keyboard")
    with pytest.raises(UsbError, match=r"no board: no USB device 0403:6015 .*plugged in"):
        machine.find()


def test_another_board_with_the_same_bridge(machine):
    machine.plug_in("0403", "6015", "ULX3S FPGA 85K v3.0.8")
    with pytest.raises(UsbError, match=r"wrong board: 'ULX3S FPGA 85K v3.0.8' is there, no Radiona ULX3S 12F"):
        machine.find()


def test_two_of_the_kind(machine):
    for _ in range(2):
        machine.plug_in("0403", "6015", "ULX3S FPGA 12K v3.0.8")
    with pytest.raises(UsbError, match="2 boards of this kind"):
        machine.find()


def test_no_permission(machine, monkeypatch):
    node = machine.plug_in("0403", "6015", "ULX3S FPGA 12K v3.0.8", mode=0o000)
    # Root may write to anything: what the kernel answers another user is asked for here.
    monkeypatch.setattr("os.access", lambda path, mode: bool(Path(path).stat().st_mode & 0o222))
    with pytest.raises(UsbError, match=rf"no permission on {node}: tickgate boards --udev"):
        machine.find()


def test_udev_rules_cover_every_board():
    rules = udev_rules(list(BOARDS.values()))
    for board in BOARDS.values():
        if board.usb is not None:
            ids = f'ATTRS{{idVendor}}=="{board.usb.vendor:04x}", ATTRS{{idProduct}}=="{board.usb.product:04x}"'
            assert f'SUBSYSTEM=="usb", {ids}' in rules
            assert f'SUBSYSTEM=="tty", {ids}' in rules
