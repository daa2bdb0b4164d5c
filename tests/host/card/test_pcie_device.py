"""What the host says of a PCI function that it cannot use, and the way by UIO as far as a file can stand for a BAR."""

import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from hdl.pcie_map import BAR_BYTES, PCI_DEVICE, PCI_VENDOR
from host.card import CardError
from host.card.pcie import pack_packets
from host.card.pcie_device import (
    BUS_MASTER,
    COMMAND,
    HUGE_BYTES,
    MEMORY_SPACE,
    UioDevice,
    allocate,
    open_device,
    physical_addresses,
)

ADDRESS = "0000:03:00.0"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A sysfs with the card, bound to no driver."""
    folder = tmp_path / "sys" / "bus" / "pci" / "devices" / ADDRESS
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{PCI_VENDOR:#06x}\n")
    (folder / "device").write_text(f"{PCI_DEVICE:#06x}\n")
    (folder / "config").write_bytes(struct.pack("<HHH", PCI_VENDOR, PCI_DEVICE, 0) + bytes(58))
    with (folder / "resource0").open("wb") as resource:
        resource.truncate(BAR_BYTES)
    return tmp_path / "sys"


def bind(sysfs: Path, driver: str) -> Path:
    """Bind the card to a driver; returns its folder."""
    folder = sysfs / "bus" / "pci" / "devices" / ADDRESS
    target = sysfs / "bus" / "pci" / "drivers" / driver
    target.mkdir(parents=True)
    (folder / "driver").symlink_to(target)
    return folder


def refusal(sysfs: Path, dev: Path = Path("/dev/none")) -> str:
    """Why the card cannot be opened: one line."""
    with pytest.raises(CardError) as caught:
        open_device(ADDRESS, HUGE_BYTES, sysfs=sysfs, dev=dev)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_such_function(tmp_path):
    assert refusal(tmp_path) == "there is no PCI function 0000:03:00.0 (lspci -D lists them)"


def test_another_function(sysfs):
    (sysfs / "bus/pci/devices" / ADDRESS / "device").write_text("0x1234\n")
    assert refusal(sysfs) == "0000:03:00.0 is 10ee:1234, not a Tickgate card (10ee:9034)"


def test_bound_to_no_driver_or_a_wrong_one(sysfs):
    assert refusal(sysfs) == f"{ADDRESS} is bound to no driver: driverctl set-override {ADDRESS} vfio-pci"
    bind(sysfs, "xdma")
    assert refusal(sysfs) == f"{ADDRESS} is bound to xdma: driverctl set-override {ADDRESS} vfio-pci"


def test_vfio_without_an_iommu_or_its_device(sysfs, tmp_path):
    folder = bind(sysfs, "vfio-pci")
    assert refusal(sysfs).startswith(f"{ADDRESS} is in no IOMMU group: switch the IOMMU on")
    group = sysfs / "kernel" / "iommu_groups" / "17"
    group.mkdir(parents=True)
    (folder / "iommu_group").symlink_to(group)
    assert (
        refusal(sysfs, tmp_path)
        == f"{ADDRESS}: {tmp_path}/vfio/vfio is not there: modprobe vfio-pci, or uio_pci_generic"
    )


def test_vfio_device_that_is_no_container(sysfs, tmp_path):
    """A file that knows no ioctl of VFIO."""
    folder = bind(sysfs, "vfio-pci")
    group = sysfs / "kernel" / "iommu_groups" / "17"
    group.mkdir(parents=True)
    (folder / "iommu_group").symlink_to(group)
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio" / "vfio").touch()
    open_files = len(os.listdir("/proc/self/fd"))
    assert refusal(sysfs, tmp_path) == f"{ADDRESS}: {tmp_path}/vfio/vfio: Inappropriate ioctl for device"
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_bar_that_is_too_small(sysfs):
    folder = bind(sysfs, "uio_pci_generic")
    os.truncate(folder / "resource0", 4096)
    assert refusal(sysfs) == f"{ADDRESS}: BAR0 has 4096 bytes, not 65536"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do all")
def test_no_permission(sysfs):
    folder = bind(sysfs, "uio_pci_generic")
    (folder / "resource0").chmod(0)
    assert refusal(sysfs) == f"{ADDRESS}: no permission for {folder}/resource0 (docs/pcie.md has a udev rule)"


@pytest.mark.skipif(os.geteuid() != 0, reason="physical addresses are for root only")
def test_uio_reaches_bar_and_memory(sysfs):
    folder = bind(sysfs, "uio_pci_generic")
    device = open_device(ADDRESS, HUGE_BYTES, sysfs=sysfs)
    assert isinstance(device, UioDevice)
    command = struct.unpack_from("<H", (folder / "config").read_bytes(), COMMAND)[0]
    assert command == MEMORY_SPACE | BUS_MASTER
    device.store(0x1008, 0x1122334455667788)
    device.copy(0x8000, np.arange(1, 5, dtype=np.uint64))
    written = (folder / "resource0").read_bytes()
    assert written[0x1008:0x1010] == bytes.fromhex("8877665544332211")
    assert written[0x8000:0x8020] == np.arange(1, 5, dtype=np.uint64).tobytes()
    assert device.load(0x8008) == 2
    # A page lies where the kernel says, from any of its bytes on.
    pages = physical_addresses(device.memory)
    assert device.bus_address(3 * mmap.PAGESIZE + 64, 128) == int(pages[3]) + 64
    device.close()
    assert struct.unpack_from("<H", (folder / "config").read_bytes(), COMMAND)[0] == MEMORY_SPACE


@pytest.mark.skipif(os.geteuid() != 0, reason="physical addresses are for root only")
def test_pages_that_are_not_in_a_row_are_refused(sysfs):
    bind(sysfs, "uio_pci_generic")
    device = open_device(ADDRESS, HUGE_BYTES, sysfs=sysfs)
    assert isinstance(device, UioDevice)
    device._pages = device._pages.copy()
    device._pages[5] += 4096
    with pytest.raises(CardError, match=r"8 KiB of the ring are not in a row .* use VFIO"):
        device.bus_address(4 * 4096, 8192)
    device.close()


def test_memory_is_zeroed_and_whole_huge_pages(tmp_path):
    memory = allocate(3 << 20, tmp_path / "ring")
    assert len(memory) == (tmp_path / "ring").stat().st_size == 4 << 20
    assert not any(memory[:4096])
    assert len(allocate(1)) == HUGE_BYTES


def test_packets_become_words():
    data = np.arange(64, dtype=np.uint8)
    offset = np.array([0, 20, 30], np.uint64)
    length, timestamp = np.array([20, 8, 3], np.uint32), np.array([7, 8, 9], np.uint64)
    words = np.zeros(100, np.uint64)
    assert pack_packets(data, offset, length, timestamp, 0, words) == (11, 3)
    expected = b"".join(
        count.to_bytes(8, "little") + time.to_bytes(8, "little") + bytes(range(at, at + count)) + bytes(-count % 8)
        for at, count, time in ((0, 20, 7), (20, 8, 8), (30, 3, 9))
    )
    assert words[:11].tobytes() == expected
    # Only whole packets, as many as there is room for.
    assert pack_packets(data, offset, length, timestamp, 0, words[:8]) == (8, 2)
    assert pack_packets(data, offset, length, timestamp, 2, words[:2]) == (0, 2)
