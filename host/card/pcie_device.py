"""A PCI Express function of this machine: its BAR0, memory that it may write to, and its configuration (docs/pcie.md).

Two ways lead there: VFIO, which confines the card to the memory that it was given (Documentation/driver-api/vfio.rst of Linux, whose
names stand here), and UIO for machines without an IOMMU, where the card reaches everything and the user must be root.
"""

import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numba import njit

from hdl.pcie_map import BAR_BYTES, PCI_DEVICE, PCI_VENDOR
from host.card import CardError
from host.memory import load_acquire, store_release

HUGE_BYTES = 2 << 20
MAP_HUGETLB = 0x40000
"""Huge pages of the default size, which on x86 is 2 MiB; mmap(2)."""

HIGH_ADDRESS = 1 << 32
"""Where the ring begins for a card behind an IOMMU: above what x86 keeps for interrupts."""

COMMAND, MEMORY_SPACE, BUS_MASTER = 4, 1 << 1, 1 << 2
"""The command register of the configuration space, and two of its bits."""

VFIO_DRIVER = "vfio-pci"
UIO_DRIVERS = ("uio_pci_generic", "igb_uio")

log = logging.getLogger(__name__)


@njit(cache=True)
def load_word(words: np.ndarray, index: int) -> np.uint64:
    """One load of 64 bits: a BAR must not see two."""
    return load_acquire(words, index)


@njit(cache=True)
def store_word(words: np.ndarray, index: int, value: np.uint64) -> None:
    """One store of 64 bits, behind all that was stored before."""
    store_release(words, index, value)


@njit(cache=True)
def copy_words(words: np.ndarray, index: int, source: np.ndarray) -> None:
    """Stores of 64 bits, which a copy of bytes would not promise."""
    for number in range(len(source)):
        store_release(words, index + number, source[number])


class PcieDevice(Protocol):
    """What the card's driver needs: 64-bit words of BAR0, and memory that the card writes to."""

    memory: mmap.mmap

    def load(self, offset: int) -> int:
        """The 64-bit word at a multiple of 8 of BAR0; all ones where the card does not answer."""

    def store(self, offset: int, value: int) -> None:
        """Write such a word, behind all that was written before."""

    def copy(self, offset: int, words: np.ndarray) -> None:
        """Write words that follow each other, in any order among themselves."""

    def bus_address(self, offset: int, length: int) -> int:
        """Where ``length`` bytes of the memory lie for the card, which sees them in a row. Raises CardError where it does not."""

    def close(self) -> None:
        """Take Bus Master Enable away, and give all back."""


def allocate(length: int, path: Path | None = None) -> mmap.mmap:
    """Zeroed memory of at least so many bytes, in huge pages where the system has some, else in ordinary ones, which is logged.

    At ``path`` a file, which is in huge pages where its file system is hugetlbfs.
    """
    whole = -(-length // HUGE_BYTES) * HUGE_BYTES
    if path is not None:
        path.unlink(missing_ok=True)
        with path.open("x+b") as file:
            file.truncate(whole)
            return mmap.mmap(file.fileno(), whole, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    shared = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    try:
        return mmap.mmap(-1, whole, shared | MAP_HUGETLB)
    except OSError:
        log.warning("no %d free huge pages of 2 MiB: the ring is in ordinary pages", whole // HUGE_BYTES)
        return mmap.mmap(-1, whole, shared)


class MappedBar:
    """BAR0 in this process's memory."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._map = mmap.mmap(descriptor, BAR_BYTES, mmap.MAP_SHARED, offset=offset)
        self._words = np.frombuffer(self._map, np.uint64)

    def load(self, offset: int) -> int:
        """See PcieDevice."""
        return int(load_word(self._words, offset // 8))

    def store(self, offset: int, value: int) -> None:
        """See PcieDevice."""
        store_word(self._words, offset // 8, np.uint64(value))

    def copy(self, offset: int, words: np.ndarray) -> None:
        """See PcieDevice."""
        copy_words(self._words, offset // 8, words)

    def close(self) -> None:
        """Unmap it."""
        del self._words
        self._map.close()


class PciFunction:
    """What sysfs says of a function ``0000:03:00.0``.

    Raises CardError where there is none, or another one.
    """

    def __init__(self, address: str, sysfs: Path = Path("/sys")) -> None:
        self.address = address
        self.folder = sysfs / "bus" / "pci" / "devices" / address
        if not self.folder.exists():
            raise CardError(f"there is no PCI function {address} (lspci -D lists them)")
        found = tuple(int((self.folder / name).read_text(), 16) for name in ("vendor", "device"))
        if found != (PCI_VENDOR, PCI_DEVICE):
            raise CardError(
                f"{address} is {found[0]:04x}:{found[1]:04x}, not a Tickgate card ({PCI_VENDOR:04x}:{PCI_DEVICE:04x})"
            )

    @property
    def driver(self) -> str | None:
        """The name of the driver that it is bound to."""
        link = self.folder / "driver"
        return link.resolve().name if link.exists() else None

    @property
    def group(self) -> str:
        """Its IOMMU group. Raises CardError where there is no IOMMU."""
        link = self.folder / "iommu_group"
        if not link.exists():
            raise CardError(
                f"{self.address} is in no IOMMU group: switch the IOMMU on (firmware, and intel_iommu=on or amd_iommu=on for "
                "the kernel), or bind uio_pci_generic"
            )
        return link.resolve().name


@contextmanager
def _explained(what: Path | str, address: str) -> Iterator[None]:
    """Errors of the operating system as one line."""
    try:
        yield
    except PermissionError:
        raise CardError(f"{address}: no permission for {what} (docs/pcie.md has a udev rule)") from None
    except FileNotFoundError:
        raise CardError(f"{address}: {what} is not there: modprobe vfio-pci, or uio_pci_generic") from None
    except OSError as error:
        raise CardError(f"{address}: {what}: {error.strerror}") from None


def _vfio(number: int) -> int:
    """_IO(VFIO_TYPE, VFIO_BASE + number)"""
    return ord(";") << 8 | 100 + number


GET_API_VERSION, CHECK_EXTENSION, SET_IOMMU = _vfio(0), _vfio(1), _vfio(2)
GROUP_GET_STATUS, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD = _vfio(3), _vfio(4), _vfio(6)
DEVICE_GET_REGION_INFO, DEVICE_RESET = _vfio(8), _vfio(11)
IOMMU_MAP_DMA, IOMMU_UNMAP_DMA = _vfio(13), _vfio(14)
API_VERSION = 0
TYPE1_IOMMU = 1
GROUP_VIABLE = 1 << 0
MAP_READ, MAP_WRITE = 1 << 0, 1 << 1
BAR0_REGION, CONFIG_REGION = 0, 7


class VfioDevice:
    """By VFIO: the card is bound to vfio-pci, and the IOMMU lets it reach the ring's memory and nothing else."""

    def __init__(self, function: PciFunction, memory_bytes: int, path: Path | None, dev: Path = Path("/dev")) -> None:
        self._descriptors: list[int] = []
        self._bar: MappedBar | None = None
        self._config = 0
        self.address = address = function.address
        try:
            container_path, group_path = dev / "vfio" / "vfio", dev / "vfio" / function.group
            self._container = container = self._open(container_path)
            with _explained(container_path, address):
                if fcntl.ioctl(container, GET_API_VERSION) != API_VERSION:
                    raise CardError(f"{address}: this kernel's VFIO has another version")
                if not fcntl.ioctl(container, CHECK_EXTENSION, TYPE1_IOMMU):
                    raise CardError(f"{address}: VFIO has no type 1 IOMMU: modprobe vfio_iommu_type1")
            group = self._open(group_path)
            with _explained(group_path, address):
                status = bytearray(struct.pack("=II", 8, 0))
                fcntl.ioctl(group, GROUP_GET_STATUS, status)
                if not struct.unpack("=II", status)[1] & GROUP_VIABLE:
                    raise CardError(
                        f"{address}: others of IOMMU group {function.group} are bound to drivers of their own: bind them to {VFIO_DRIVER} too"
                    )
                fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("=i", container))
                fcntl.ioctl(container, SET_IOMMU, TYPE1_IOMMU)
                self._device = fcntl.ioctl(group, GROUP_GET_DEVICE_FD, bytearray(address.encode() + b"\0"))
                self._descriptors.append(self._device)
                bar_at = self._region(BAR0_REGION)
                self._config = self._region(CONFIG_REGION)
                self._bar = MappedBar(self._device, bar_at)
            self.memory = allocate(memory_bytes, path)
            self._map()
            self._set_command(MEMORY_SPACE | BUS_MASTER, 0)
        except BaseException:
            self.close()
            raise
        self.load, self.store, self.copy = self._bar.load, self._bar.store, self._bar.copy

    def bus_address(self, offset: int, length: int) -> int:
        """See PcieDevice."""
        return HIGH_ADDRESS + offset

    def close(self) -> None:
        """See PcieDevice."""
        if self._config:
            self._set_command(0, BUS_MASTER)
            self._config = 0
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        for descriptor in reversed(self._descriptors):
            os.close(descriptor)
        self._descriptors.clear()

    def _open(self, path: Path) -> int:
        with _explained(path, self.address):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        return descriptor

    def _region(self, index: int) -> int:
        """Where a region begins in the device's file."""
        layout = "=IIIIQQ"
        region = bytearray(struct.pack(layout, struct.calcsize(layout), 0, index, 0, 0, 0))
        fcntl.ioctl(self._device, DEVICE_GET_REGION_INFO, region)
        _, _, _, _, size, offset = struct.unpack(layout, region)
        if index == BAR0_REGION and size < BAR_BYTES:
            raise CardError(f"{self.address}: BAR0 has {size} bytes, not {BAR_BYTES}")
        return offset

    def _map(self) -> None:
        length = len(self.memory)
        layout = "=IIQQQ"
        at = np.frombuffer(self.memory, np.uint8).ctypes.data
        request = struct.pack(layout, struct.calcsize(layout), MAP_READ | MAP_WRITE, at, HIGH_ADDRESS, length)
        try:
            fcntl.ioctl(self._container, IOMMU_MAP_DMA, request)
        except OSError as error:
            raise CardError(
                f"{self.address}: {length >> 20} MiB cannot be mapped for the card ({error.strerror}): raise the limit of locked memory "
                "(ulimit -l), or take a smaller ring"
            ) from None

    def _set_command(self, more: int, less: int) -> None:
        at = self._config + COMMAND
        (command,) = struct.unpack("<H", os.pread(self._device, 2, at))
        os.pwrite(self._device, struct.pack("<H", command & ~less | more), at)


PAGEMAP_PRESENT, PAGEMAP_FRAME = 1 << 63, (1 << 55) - 1
"""An entry of /proc/pid/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""


def physical_addresses(memory: mmap.mmap) -> np.ndarray:
    """The physical address of each page. Raises CardError for who may not see them."""
    at = np.frombuffer(memory, np.uint8).ctypes.data
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(at // mmap.PAGESIZE * 8)
        entries = np.frombuffer(pagemap.read(len(memory) // mmap.PAGESIZE * 8), np.uint64)
    if not (entries & np.uint64(PAGEMAP_PRESENT)).all() or not (entries & np.uint64(PAGEMAP_FRAME)).all():
        raise CardError("physical addresses are for root only: run as root, or use VFIO")
    return (entries & np.uint64(PAGEMAP_FRAME)) * np.uint64(mmap.PAGESIZE)


class UioDevice:
    """By UIO: the card is bound to uio_pci_generic, and writes to physical addresses. Wants root, and huge pages: others may move."""

    def __init__(self, function: PciFunction, memory_bytes: int, path: Path | None) -> None:
        self.address = address = function.address
        resource, self._config = function.folder / "resource0", function.folder / "config"
        with _explained(resource, address):
            descriptor = os.open(resource, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size < BAR_BYTES:
                raise CardError(f"{address}: BAR0 has {size} bytes, not {BAR_BYTES}")
            with _explained(resource, address):
                self._bar = MappedBar(descriptor, 0)
        finally:
            os.close(descriptor)
        self.memory = allocate(memory_bytes, path)
        self._pages = physical_addresses(self.memory)
        self._set_command(MEMORY_SPACE | BUS_MASTER, 0)
        self.load, self.store, self.copy = self._bar.load, self._bar.store, self._bar.copy

    def bus_address(self, offset: int, length: int) -> int:
        """See PcieDevice."""
        first, last = offset // mmap.PAGESIZE, (offset + length - 1) // mmap.PAGESIZE
        pages = self._pages[first : last + 1]
        expected = pages[0] + np.arange(len(pages), dtype=np.uint64) * np.uint64(mmap.PAGESIZE)
        if (pages != expected).any():
            raise CardError(
                f"{self.address}: {length >> 10} KiB of the ring are not in a row in physical memory: reserve huge pages of 1 GiB "
                "(hugepagesz=1G default_hugepagesz=1G hugepages=1), take a smaller ring, or use VFIO"
            )
        return int(pages[0]) + offset % mmap.PAGESIZE

    def close(self) -> None:
        """See PcieDevice."""
        self._set_command(0, BUS_MASTER)
        self._bar.close()

    def _set_command(self, more: int, less: int) -> None:
        with _explained(self._config, self.address), self._config.open("r+b", buffering=0) as config:
            config.seek(COMMAND)
            (command,) = struct.unpack("<H", config.read(2))
            config.seek(COMMAND)
            config.write(struct.pack("<H", command & ~less | more))


def open_device(
    address: str,
    memory_bytes: int,
    path: Path | None = None,
    *,
    sysfs: Path = Path("/sys"),
    dev: Path = Path("/dev"),
) -> PcieDevice:
    """The function at ``address`` with memory of at least so many bytes, by the way of the driver that it is bound to. Raises CardError."""
    function = PciFunction(address, sysfs)
    driver = function.driver
    if driver == VFIO_DRIVER:
        return VfioDevice(function, memory_bytes, path, dev)
    if driver in UIO_DRIVERS:
        return UioDevice(function, memory_bytes, path)
    bound = f"bound to {driver}" if driver else "bound to no driver"
    raise CardError(f"{address} is {bound}: driverctl set-override {address} {VFIO_DRIVER}")
