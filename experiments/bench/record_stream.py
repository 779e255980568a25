#!/usr/bin/env python3
"""Records the COLO stream that a real primary QEMU sends to a real secondary QEMU.

Starts both QEMUs, stands between their two unix sockets, passes every byte on unchanged, and saves what
the primary sends from the secondary's CHECKPOINT_READY on. The file ends exactly with the last byte of the
last checkpoint, so a parser that reads it must end idle. Needs only Python's standard library.

The guest is whatever --kernel and --initrd boot; recording begins once its serial console has printed
--ready-text. QEMU before 11 needs --preload with the TCG shim when it runs without KVM; QEMU from 11 on
needs --return-path.
"""
import argparse
import json
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import time

REPLY, RECEIVED, LOADED = 2, 5, 6
READY_MESSAGE = struct.pack(">I", 0)
RETURN_PATH_SHUT = 1


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--initrd", required=True)
    parser.add_argument("--qemu", default="qemu-system-x86_64",
                        help="the QEMU command, split like a shell would")
    parser.add_argument("--accel", default="tcg,thread=multi")
    parser.add_argument("--preload", help="a library to load into QEMU (LD_PRELOAD)")
    parser.add_argument("--return-path", action="store_true", help="set the return-path capability")
    parser.add_argument("--memory-mib", type=int, default=256)
    parser.add_argument("--append", default="console=ttyS0 quiet")
    parser.add_argument("--device", action="append", default=["virtio-rng-pci"], help="add a device")
    parser.add_argument("--ready-text", default="tick", help="what the guest prints when it is busy")
    parser.add_argument("--boot-timeout-s", type=float, default=90)
    parser.add_argument("--checkpoints", type=int, default=4, help="how many to record")
    parser.add_argument("--skip", type=int, default=1, help="checkpoints to let pass before")
    parser.add_argument("--delay-ms", type=int, default=250, help="x-checkpoint-delay")
    return parser.parse_args()


class Qmp:
    """One QMP connection, used synchronously; events are read past."""

    def __init__(self, process, path, deadline):
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if process.poll() is not None:
                    raise SystemExit(
                        f"QEMU ended with status {process.returncode} before its monitor was there")
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.run("qmp_capabilities")

    def run(self, command, **args):
        self.file.write(json.dumps({"execute": command, "arguments": args}) + "\n")
        self.file.flush()
        for line in self.file:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise RuntimeError(f"{command}: QEMU closed its monitor")


def start_qemu(options, folder, name, *extra):
    environment = dict(os.environ)
    if options.preload:
        environment["LD_PRELOAD"] = os.path.abspath(options.preload)
    command = shlex.split(options.qemu) + [
        "-accel", options.accel, "-machine", "pc", "-m", str(options.memory_mib), "-smp", "1",
        "-kernel", options.kernel, "-initrd", options.initrd, "-append", options.append,
        "-display", "none", "-nodefaults", "-serial", f"file:{folder}/{name}.serial",
        "-qmp", f"unix:{folder}/{name}.qmp,server=on,wait=off", *extra]
    for device in options.device:
        command += ["-device", device]
    return subprocess.Popen(command, env=environment)


def wait_for_guest(path, text, deadline):
    while True:
        if os.path.exists(path):
            with open(path, errors="replace") as serial:
                if text in serial.read():
                    return
        if time.monotonic() > deadline:
            raise SystemExit(f"the guest did not print {text!r} in time; see --boot-timeout-s")
        time.sleep(0.1)


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise SystemExit("the secondary closed its stream before it was ready")
        data += piece
    return data


def pass_initial_stream(primary, secondary, return_path):
    """Ends when the secondary has sent CHECKPOINT_READY, which is not yet passed on."""
    total = 0
    shut = not return_path
    while True:
        readable, _, _ = select.select([primary, secondary], [], [], 60)
        if not readable:
            raise SystemExit("the initial migration stands still")
        if primary in readable:
            data = primary.recv(1 << 20)
            if not data:
                raise SystemExit("the primary closed its stream during the initial migration")
            secondary.sendall(data)
            total += len(data)
        if secondary in readable:
            head = read_exactly(secondary, 4)
            if shut:
                if head != READY_MESSAGE:
                    raise SystemExit(f"expected CHECKPOINT_READY, got {head.hex()}")
                return total
            kind, length = struct.unpack(">HH", head)
            primary.sendall(head + read_exactly(secondary, length))
            shut = kind == RETURN_PATH_SHUT


def record(primary, secondary, out, skip, checkpoints):
    """Passes the framed stream on and saves it. Returns the size of each recorded checkpoint."""
    answers, loaded, size, sizes = b"", 0, 0, []
    primary.sendall(READY_MESSAGE)
    while loaded < skip + checkpoints:
        readable, _, _ = select.select([primary, secondary], [], [], 60)
        if not readable:
            raise SystemExit("the COLO stream stands still")
        if primary in readable:
            data = primary.recv(1 << 20)
            if not data:
                raise SystemExit("the primary closed its stream")
            if loaded >= skip:
                out.write(data)
                size += len(data)
            secondary.sendall(data)
        if secondary in readable:
            data = secondary.recv(4096)
            if not data:
                raise SystemExit("the secondary closed its stream")
            answers += data
            while len(answers) >= 4:
                message, = struct.unpack(">I", answers[:4])
                answers = answers[4:]
                if message not in (REPLY, RECEIVED, LOADED):
                    raise SystemExit(f"the secondary sent message {message}")
                if message == LOADED:
                    # The primary sends nothing between its device state and this answer, so whatever
                    # belongs to this checkpoint has been saved.
                    if loaded >= skip:
                        sizes.append(size)
                        size = 0
                    loaded += 1
            primary.sendall(data)
    return sizes


def main():
    options = arguments()
    deadline = time.monotonic() + options.boot_timeout_s
    children = []
    with tempfile.TemporaryDirectory(prefix="record-stream-") as folder, open(options.out, "wb") as out:
        try:
            children.append(start_qemu(options, folder, "primary"))
            children.append(start_qemu(options, folder, "secondary", "-incoming", "defer"))
            primary_qmp = Qmp(children[0], f"{folder}/primary.qmp", deadline)
            secondary_qmp = Qmp(children[1], f"{folder}/secondary.qmp", deadline)
            wait_for_guest(f"{folder}/primary.serial", options.ready_text, deadline)
            names = ["x-colo"] + (["return-path"] if options.return_path else [])
            capabilities = [{"capability": name, "state": True} for name in names]
            secondary_qmp.run("migrate-set-capabilities", capabilities=capabilities)
            secondary_qmp.run("migrate-incoming", uri=f"unix:{folder}/secondary.migration")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/primary.migration")
            listener.listen(1)
            listener.settimeout(30)
            primary_qmp.run("migrate-set-capabilities", capabilities=capabilities)
            primary_qmp.run("migrate-set-parameters",
                            **{"x-checkpoint-delay": options.delay_ms, "max-bandwidth": 10**11})
            primary_qmp.run("migrate", uri=f"unix:{folder}/primary.migration")
            primary, _ = listener.accept()
            secondary = socket.socket(socket.AF_UNIX)
            secondary.connect(f"{folder}/secondary.migration")
            initial = pass_initial_stream(primary, secondary, options.return_path)
            sizes = record(primary, secondary, out, options.skip, options.checkpoints)
            version = primary_qmp.run("query-version")["qemu"]
            print("QEMU {major}.{minor}.{micro}".format(**version), f"initial stream {initial} bytes,",
                  f"{len(sizes)} checkpoints: {sizes}")
        except BaseException as error:
            # Half a recording must not pass for a whole one.
            os.unlink(options.out)
            if isinstance(error, (OSError, RuntimeError)):
                raise SystemExit(f"the recording failed: {error}") from error
            raise
        finally:
            for child in children:
                child.kill()
                child.wait()


if __name__ == "__main__":
    sys.exit(main())
