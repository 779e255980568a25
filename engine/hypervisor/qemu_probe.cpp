#include "engine/hypervisor/qemu_probe.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/process.hpp"
#include "engine/hypervisor/qemu_command.hpp"

namespace tandem::hypervisor {
namespace {

using namespace std::chrono_literals;

constexpr auto version_timeout = 10s;  // A first start reads some 50 MiB from the disk.
constexpr auto kvm_probe_timeout = 3s;
constexpr std::size_t output_bytes_max = 16u << 10;

struct Finished {
  int status = 0;
  std::string output;
};

/// A file in memory that is closed on exec, but for the copies that spawn() makes.
Result<UniqueFd> memory_file(const char* name) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return system_error("cannot make a file in memory", errno);
  return fd;
}

std::string read_back(int fd) {
  std::string text(output_bytes_max, '\0');
  const auto n = ::pread(fd, text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

/// Runs the configured QEMU with `more` arguments to its end.
Task<Result<Finished>> run_qemu(const QemuConfig& config, const std::vector<std::string>& more,
                                const std::vector<int>& descriptors,
                                std::chrono::milliseconds timeout) {
  auto output = memory_file("qemu-output");
  if (!output) co_return output.error();
  SpawnRequest request;
  request.program = config.binary;
  request.arguments = config.arguments;
  request.arguments.insert(request.arguments.end(), more.begin(), more.end());
  request.environment = qemu_environment(config, current_environment(), {});
  request.output = output->get();
  request.descriptors = descriptors;
  auto child = spawn(request);
  if (!child) co_return child.error();
  auto ended = co_await wait_for_end(child->pidfd.get(), timeout);
  if (!ended) {
    const auto killed = send_kill(child->pidfd.get());
    auto gone = co_await wait_for_end(child->pidfd.get(), 5s);
    if (killed && gone) static_cast<void>(exit_status(child->pidfd.get()));
    co_return ended.error();
  }
  auto status = exit_status(child->pidfd.get());
  if (!status) co_return status.error();
  co_return Finished{*status, read_back(output->get())};
}

Task<Result<qmp::Version>> ask_version(const QemuConfig& config) {
  const std::vector<std::string> arguments{"--version"};
  const std::vector<int> no_descriptors;
  auto finished = co_await run_qemu(config, arguments, no_descriptors, version_timeout);
  if (!finished) co_return with_context(config.binary.string() + " --version", finished.error());
  if (finished->status != 0) {
    co_return Error{Errc::unavailable, config.binary.string() + " --version failed with status " +
                                           std::to_string(finished->status) + ": " +
                                           finished->output};
  }
  auto version = parse_version(finished->output);
  if (!version) co_return with_context(config.binary.string(), version.error());
  co_return version;
}

/// What the guest of the probe writes to QEMU's isa-debug-exit device, whose status is twice that,
/// plus 1.
constexpr int probe_value = 0x2a;

/// A boot sector: mov al, probe_value; out 0xf4, al; cli; hlt; jmp back to hlt.
///
/// It is started by the firmware from a disk, and not put in the firmware's place: there are nested
/// hosts on which a few instructions run under KVM, but not what a firmware or a kernel does before
/// it gets anywhere.
Result<UniqueFd> make_boot_sector() {
  constexpr std::array<unsigned char, 8> program{0xb0, probe_value, 0xe6, 0xf4,
                                                 0xfa, 0xf4,        0xeb, 0xfd};
  // A floppy disk of 1.44 MB, so that no version has to guess the kind.
  std::vector<unsigned char> image(1440u << 10);
  std::copy(program.begin(), program.end(), image.begin());
  image[510] = 0x55;
  image[511] = 0xaa;
  auto file = memory_file("boot-sector");
  if (!file) return file.error();
  if (::write(file->get(), image.data(), image.size()) != static_cast<ssize_t>(image.size())) {
    return system_error("cannot write a boot sector", errno);
  }
  return file;
}

/// Empty if the device is there and may be used; else why not.
std::string kvm_device_fault() {
  const UniqueFd device(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (device) return {};
  if (errno == ENOENT) {
    return "there is no /dev/kvm: no virtualization in this CPU or its firmware settings, or the "
           "kernel's kvm module is not loaded";
  }
  return system_error("cannot open /dev/kvm", errno).message;
}

}  // namespace

/// "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", then other lines.
Result<qmp::Version> parse_version(const std::string& text) {
  constexpr std::string_view before = "QEMU emulator version ";
  const auto error =
      Error{Errc::protocol, "expected '" + std::string(before) + "…' from --version, got '" +
                                text.substr(0, 200) + "'"};
  auto at = text.find(before);
  if (at == std::string::npos) return error;
  at += before.size();
  qmp::Version version;
  const auto* const end = text.data() + text.size();
  const auto* next = text.data() + at;
  for (int* number : {&version.major, &version.minor, &version.micro}) {
    const auto parsed = std::from_chars(next, end, *number);
    if (parsed.ec != std::errc() || *number < 0) return error;
    next = parsed.ptr;
    if (number != &version.micro) {
      if (next == end || *next != '.') return error;
      ++next;
    }
  }
  const auto line_end = std::find(next, end, '\n');
  const auto open = std::find(next, line_end, '(');
  const auto close = std::find(open, line_end, ')');
  if (close != line_end) version.package.assign(open + 1, close);
  return version;
}

Task<Result<BootVerdict>> try_boot(const QemuConfig& config, const std::string& accel) {
  auto sector = make_boot_sector();
  if (!sector) co_return sector.error();
  const auto disk =
      "if=floppy,format=raw,readonly=on,file=/dev/fd/" + std::to_string(first_inherited_fd);
  const std::vector<std::string> arguments{"-nodefaults", "-no-user-config",
                                           "-display",    "none",
                                           "-machine",    "pc",
                                           "-accel",      accel,
                                           "-m",          "16",
                                           "-device",     "isa-debug-exit,iobase=0xf4,iosize=1",
                                           "-drive",      disk,
                                           "-boot",       "a"};
  const std::vector<int> descriptors{sector->get()};
  auto finished = co_await run_qemu(config, arguments, descriptors, kvm_probe_timeout);
  if (!finished && finished.error().code == Errc::timed_out) {
    co_return BootVerdict{false, "a boot sector did not get to run under " + accel + " within 3 s"};
  }
  if (!finished) co_return finished.error();
  if (finished->status == 2 * probe_value + 1)
    co_return BootVerdict{true, "a boot sector ran under " + accel};
  co_return BootVerdict{false, "a boot sector did not run under " + accel + " (status " +
                                   std::to_string(finished->status) + "): " + finished->output};
}

std::string_view to_string(Accelerator accelerator) noexcept {
  return accelerator == Accelerator::kvm ? "kvm" : "tcg";
}

Result<void> check_version(const qmp::Version& version) {
  if (version.major == 10 && version.minor <= 1) {
    return Error{
        Errc::refused,
        "QEMU " + qmp::to_string(version) +
            ": COLO is broken in 10.0 and 10.1 (the migration ends \"completed\" and the VM "
            "stays paused): use 9.2 or older, or 10.2 or newer"};
  }
  if (version.major < 6) {
    return Error{Errc::refused,
                 "QEMU " + qmp::to_string(version) +
                     ": versions before 6.0 have never been tried: use 7.2 or newer"};
  }
  return {};
}

std::vector<std::string> colo_capabilities(const qmp::Version& version) {
  std::vector<std::string> names{"x-colo"};
  if (version.major >= 11) names.emplace_back("return-path");
  return names;
}

Task<Result<QemuProbe>> probe(const QemuConfig& config) {
  if (config.accel != "auto" && config.accel != "kvm" && config.accel != "tcg") {
    co_return Error{Errc::invalid_input,
                    "qemu accel: expected auto, kvm or tcg, not '" + config.accel + "'"};
  }
  auto version = co_await ask_version(config);
  if (!version) co_return version.error();
  if (auto usable = check_version(*version); !usable) {
    co_return with_context(config.binary.string(), usable.error());
  }
  QemuProbe found;
  found.version = *version;
  if (config.accel == "tcg") {
    found.accelerator_reason = "configured";
  } else {
    BootVerdict kvm{false, kvm_device_fault()};
    if (kvm.reason.empty()) {
      const std::string accel = "kvm";
      auto verdict = co_await try_boot(config, accel);
      if (!verdict) co_return with_context("KVM probe", verdict.error());
      kvm = *std::move(verdict);
      if (!kvm.works) {
        kvm.reason = "/dev/kvm exists, but " + kvm.reason +
                     " (a nested host, or one whose "
                     "virtualization is incomplete?)";
      }
    }
    found.accelerator_reason = kvm.reason;
    if (kvm.works) {
      found.accelerator = Accelerator::kvm;
    } else if (config.accel == "kvm") {
      co_return Error{Errc::unavailable,
                      "KVM is configured, but does not work here: " + kvm.reason};
    }
  }
  found.shim = found.accelerator == Accelerator::tcg && found.version.major < 11;
  co_return found;
}

}  // namespace tandem::hypervisor
