// Network namespaces and what connects them: veth pairs, bridges, addresses and shaped links.
//
// A namespace lives as long as its object (and the processes in it); nothing is left in /run/netns.
// Links are made with iproute2's `ip` and `tc`; taking a link up or down is one system call, so
// that a "cable" can be cut at an exact instant.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace tandem::world {

class NetNamespace {
 public:
  /// A new namespace whose loopback is up. `name` appears in messages only. Needs CAP_SYS_ADMIN,
  /// which everything inside the sandbox has.
  static Result<NetNamespace> make(std::string name);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  /// Identifies the namespace: the inode that /proc/PID/ns/net shows for processes in it.
  [[nodiscard]] ino_t inode() const noexcept { return inode_; }

  /// Moves the calling thread into the namespace, for good.
  [[nodiscard]] Result<void> enter() const;
  /// Opens a socket that belongs to the namespace, whoever uses it.
  [[nodiscard]] Result<UniqueFd> open_socket(int domain, int type, int protocol) const;
  /// Processes in the namespace, as this process's /proc shows them.
  [[nodiscard]] std::vector<pid_t> processes() const;

  /// Runs `ip` or `tc` with these arguments in the namespace and returns what it printed.
  Result<std::string> ip(std::vector<std::string> arguments) const;
  Result<std::string> tc(std::vector<std::string> arguments) const;

  /// A bridge that forwards at once (no spanning tree), up.
  Result<void> add_bridge(const std::string& bridge) const;
  /// A cable: `link` here, `peer_link` in `peer`; both ends up, without addresses.
  Result<void> add_veth(const std::string& link, const NetNamespace& peer,
                        const std::string& peer_link) const;
  Result<void> add_address(const std::string& link, const std::string& address_and_prefix) const;
  Result<void> join_bridge(const std::string& link, const std::string& bridge) const;
  /// Limits what leaves through `link` to `rate` ("1gbit", as tc writes it) with a token bucket.
  Result<void> shape(const std::string& link, const std::string& rate) const;
  Result<void> set_up(const std::string& link, bool up) const;
  /// Off: frames leave `link` as a wire would carry them, with complete checksums and no longer
  /// than its MTU allows; and what comes in is neither trusted nor merged.
  Result<void> set_offload(const std::string& link, bool on) const;

 private:
  NetNamespace(std::string name, UniqueFd fd, UniqueFd control, ino_t inode)
      : name_(std::move(name)), fd_(std::move(fd)), control_(std::move(control)), inode_(inode) {}
  Result<std::string> tool(const char* program, std::vector<std::string> arguments) const;

  std::string name_;
  UniqueFd fd_;
  UniqueFd control_;  // a socket of the namespace, for interface ioctls
  ino_t inode_ = 0;
};

}  // namespace tandem::world
