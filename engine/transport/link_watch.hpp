// Notices that the network link under a lane has lost its carrier, long before silence would tell:
// a host that loses power takes the link of a direct cable down at once.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"

namespace tandem::transport {

class LinkWatch {
 public:
  /// Watches the interface that has `local_address`. Errc::not_found if none has it.
  static Result<std::unique_ptr<LinkWatch>> open(const asio::any_io_executor& executor,
                                                 const std::string& local_address);

  /// Resolves when the link has been without carrier for `debounce`: true; false after close().
  Task<bool> wait_until_down(std::chrono::milliseconds debounce);
  void close();

  [[nodiscard]] const std::string& interface() const noexcept { return interface_; }

 private:
  LinkWatch(const asio::any_io_executor& executor, std::string interface)
      : interface_(std::move(interface)), netlink_(executor) {}
  [[nodiscard]] bool has_carrier() const;

  std::string interface_;
  asio::posix::stream_descriptor netlink_;
};

}  // namespace tandem::transport
