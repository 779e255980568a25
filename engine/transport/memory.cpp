#include "engine/transport/memory.hpp"

#include <algorithm>
#include <deque>

#include "base/signal.hpp"

namespace tandem::transport {
namespace {

/// One direction of a lane pair.
struct Pipe {
  Pipe(const asio::any_io_executor& executor, std::size_t capacity_, std::size_t cut_after)
      : capacity(capacity_), left(cut_after), changed(executor) {}

  std::deque<std::byte> bytes;
  std::size_t capacity;
  std::size_t left;  ///< how many bytes may still be sent before the cut
  bool closed = false;
  Signal changed;
};

class MemoryLane final : public Lane {
 public:
  MemoryLane(std::shared_ptr<Pipe> out, std::shared_ptr<Pipe> in)
      : out_(std::move(out)), in_(std::move(in)) {}
  ~MemoryLane() override { MemoryLane::close(); }

  Task<Result<void>> send(std::span<const std::byte> first,
                          std::span<const std::byte> second) override {
    const auto pipe = out_;
    for (auto piece : {first, second}) {
      while (!piece.empty()) {
        if (pipe->closed) co_return Error{Errc::closed, "the lane is closed"};
        if (pipe->left == 0) {
          close();
          co_return Error{Errc::closed, "the lane was cut"};
        }
        const auto n = std::min({piece.size(), pipe->capacity - pipe->bytes.size(), pipe->left});
        if (n == 0) {
          co_await pipe->changed.wait();
          continue;
        }
        pipe->bytes.insert(pipe->bytes.end(), piece.begin(),
                           piece.begin() + static_cast<std::ptrdiff_t>(n));
        pipe->left -= n;
        piece = piece.subspan(n);
        pipe->changed.notify();
      }
    }
    co_return Result<void>();
  }

  Task<Result<void>> receive(std::span<std::byte> into) override {
    const auto pipe = in_;
    while (!into.empty()) {
      const auto n = std::min(into.size(), pipe->bytes.size());
      if (n == 0) {
        if (pipe->closed) co_return Error{Errc::closed, "the lane is closed"};
        co_await pipe->changed.wait();
        continue;
      }
      const auto end = pipe->bytes.begin() + static_cast<std::ptrdiff_t>(n);
      std::copy(pipe->bytes.begin(), end, into.begin());
      pipe->bytes.erase(pipe->bytes.begin(), end);
      into = into.subspan(n);
      pipe->changed.notify();
    }
    co_return Result<void>();
  }

  void close() noexcept override {
    for (const auto& pipe : {out_, in_}) {
      pipe->closed = true;
      pipe->changed.notify();
    }
  }

 private:
  std::shared_ptr<Pipe> out_, in_;
};

}  // namespace

std::pair<std::unique_ptr<Lane>, std::unique_ptr<Lane>> make_memory_lanes(
    const asio::any_io_executor& executor, std::size_t capacity, std::size_t cut_after) {
  auto there = std::make_shared<Pipe>(executor, capacity, cut_after);
  auto back = std::make_shared<Pipe>(executor, capacity, SIZE_MAX);
  auto first = std::make_unique<MemoryLane>(there, back);
  return {std::move(first), std::make_unique<MemoryLane>(back, there)};
}

}  // namespace tandem::transport
