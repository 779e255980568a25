#include "experiments/survival/exchange.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "experiments/guests/peer_stream.h"

namespace tandem::survival {
namespace {

constexpr std::size_t line_bytes_max = 256;
// What RANDOM and SERVE answer with.
constexpr std::size_t token_bytes = 32;

const unsigned char* raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

void append_stream(std::string& out, std::uint64_t seed, std::uint64_t position, std::size_t size) {
  const auto begin = out.size();
  out.resize(begin + size);
  peer_stream_fill(seed, position, reinterpret_cast<unsigned char*>(out.data()) + begin, size);
}

/// Compares bytes with the stream's from `position` on.
Result<void> check_stream(std::uint64_t seed, std::uint64_t position, std::string_view bytes) {
  std::array<unsigned char, 4096> expected{};
  while (!bytes.empty()) {
    const auto piece = std::min(bytes.size(), expected.size());
    peer_stream_fill(seed, position, expected.data(), piece);
    const auto [wrong, unused] =
        std::mismatch(expected.begin(), expected.begin() + piece, raw(bytes));
    if (wrong != expected.begin() + piece) {
      const auto at = position + static_cast<std::uint64_t>(wrong - expected.begin());
      return Error{Errc::protocol, "byte " + std::to_string(at) + " of the stream is wrong"};
    }
    position += piece;
    bytes.remove_prefix(piece);
  }
  return {};
}

std::string hex(std::uint64_t number, int digits) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%0*llx", digits,
                static_cast<unsigned long long>(number));
  return text.data();
}

/// Cuts what comes into lines.
class Lines {
 public:
  explicit Lines(std::string_view end) : end_(end) {}
  /// Calls `handle` with each whole line, without its end, until one is refused.
  template <class F>
  Result<void> feed(std::string_view bytes, F&& handle) {
    partial_ += bytes;
    std::size_t begin = 0;
    for (;;) {
      const auto stop = partial_.find(end_, begin);
      if (stop == std::string::npos) break;
      const std::string_view line(partial_.data() + begin, stop - begin);
      if (Result<void> handled = handle(line); !handled) return handled;
      begin = stop + end_.size();
    }
    partial_.erase(0, begin);
    if (partial_.size() > line_bytes_max)
      return Error{Errc::protocol, "a line without end: " + partial_.substr(0, 40) + "…"};
    return {};
  }

 private:
  std::string_view end_;
  std::string partial_;
};

Error unexpected(std::string_view got, const std::string& expected) {
  return {Errc::protocol,
          "the answer \"" + std::string(got.substr(0, 120)) + "\" came instead of " + expected};
}

class Echo final : public Exchange {
 public:
  Echo(const EchoOptions& options, Time now)
      : options_(options), pace_(options.messages_per_second, now), opened_(!options.says_echo) {}

  void produce(Time now, std::string& out) override {
    if (!opened_) out += "ECHO\n";
    opened_ = true;
    while (!finishing_ && waiting_.size() < options_.window && out.size() < out_bytes_max) {
      const auto due = pace_.take(now);
      if (!due) break;
      append_stream(out, options_.seed, account_.sent, options_.message_bytes);
      account_.sent += options_.message_bytes;
      ++account_.requests;
      waiting_.push_back(*due);
    }
  }

  std::optional<Time> due() const override {
    if (finishing_ || waiting_.size() >= options_.window) return std::nullopt;
    return pace_.next();
  }

  Result<void> consume(std::string_view bytes, Time now) override {
    if (account_.received + bytes.size() > account_.sent)
      return Error{Errc::protocol, "more came back than was sent"};
    if (auto right = check_stream(options_.seed, account_.received, bytes); !right) return right;
    account_.received += bytes.size();
    while (!waiting_.empty() &&
           account_.received >= (account_.replies + 1) * options_.message_bytes) {
      ++account_.replies;
      account_.answers.push_back(now);
      account_.latencies.push_back({waiting_.front(), now - waiting_.front()});
      waiting_.pop_front();
    }
    return {};
  }

  bool settled() const override { return finishing_ && waiting_.empty(); }
  bool complete() const override { return account_.received == account_.sent; }
  std::string missing() const override {
    return std::to_string(account_.sent - account_.received) + " of " +
           std::to_string(account_.sent) + " bytes have not come back";
  }

 private:
  EchoOptions options_;
  Pace pace_;
  bool opened_;
  std::deque<Time> waiting_;
};

class Upload final : public Exchange {
 public:
  Upload(std::uint64_t seed, std::uint64_t step) : seed_(seed), step_(step) {}

  void produce(Time, std::string& out) override {
    if (!opened_) out += "SINK " + std::to_string(step_) + "\n";
    opened_ = true;
    while (!finishing_ && out.size() < out_bytes_max) {
      // Pieces end at the steps, where the sum is needed.
      const auto piece = static_cast<std::size_t>(
          std::min<std::uint64_t>(step_ - account_.sent % step_, out_bytes_max));
      const auto begin = out.size();
      append_stream(out, seed_, account_.sent, piece);
      sum_ = peer_sum(sum_, raw(out) + begin, piece);
      account_.sent += piece;
      if (account_.sent % step_ == 0) expect();
    }
  }

  std::optional<Time> due() const override { return std::nullopt; }

  Result<void> consume(std::string_view bytes, Time now) override {
    return lines_.feed(bytes, [&](std::string_view line) -> Result<void> {
      if (expected_.empty()) return unexpected(line, "nothing");
      const auto& [count, text] = expected_.front();
      if (line != text) return unexpected(line, "\"" + text + "\"");
      account_.received = count;
      ++account_.replies;
      account_.answers.push_back(now);
      expected_.pop_front();
      return {};
    });
  }

  void finish() override {
    if (!finishing_) expect();  // the last word, behind the FIN
    finishing_ = true;
  }
  bool settled() const override { return finishing_; }
  bool complete() const override { return finishing_ && expected_.empty(); }
  std::string missing() const override {
    return std::to_string(account_.sent - account_.received) + " of " +
           std::to_string(account_.sent) + " bytes sent are not confirmed";
  }

 private:
  void expect() {
    ++account_.requests;
    expected_.emplace_back(account_.sent, std::to_string(account_.sent) + " " + hex(sum_, 16));
  }

  std::uint64_t seed_, step_;
  std::uint64_t sum_ = PEER_SUM_START;
  bool opened_ = false;
  Lines lines_{"\n"};
  std::deque<std::pair<std::uint64_t, std::string>> expected_;
};

class Download final : public Exchange {
 public:
  Download(std::uint64_t seed, std::uint64_t window) : seed_(seed), window_(window) {}

  void produce(Time, std::string& out) override {
    if (!opened_) {
      out += "SOURCE " + std::to_string(seed_) + " " + std::to_string(window_) + "\n";
      opened_ = true;
      granted_ = window_;
      account_.requests = 1;
    }
    // Half a window at a time: a line for every segment would be a second stream.
    if (finishing_ || granted_ - account_.received > window_ / 2) return;
    const auto more = account_.received + window_ - granted_;
    out += std::to_string(more) + "\n";
    granted_ += more;
    ++account_.requests;
  }

  std::optional<Time> due() const override { return std::nullopt; }

  Result<void> consume(std::string_view bytes, Time now) override {
    if (account_.received + bytes.size() > granted_)
      return Error{Errc::protocol, "more came than was asked for"};
    if (auto right = check_stream(seed_, account_.received, bytes); !right) return right;
    account_.received += bytes.size();
    ++account_.replies;
    account_.answers.push_back(now);
    return {};
  }

  bool settled() const override { return finishing_ && complete(); }
  bool complete() const override { return account_.received == granted_; }
  std::string missing() const override {
    return std::to_string(granted_ - account_.received) + " of " + std::to_string(granted_) +
           " bytes asked for have not come";
  }

 private:
  std::uint64_t seed_, window_;
  std::uint64_t granted_ = 0;
  bool opened_ = false;
};

class RandomService final : public Exchange {
 public:
  RandomService(std::chrono::milliseconds interval, Time now) : interval_(interval), next_(now) {}

  void produce(Time now, std::string& out) override {
    if (!opened_) out += "RANDOM\n";
    opened_ = true;
    if (finishing_ || waiting_ || now < next_) return;
    ++account_.requests;
    const auto line = std::to_string(account_.requests) + "\n";
    account_.sent += line.size();
    out += line;
    asked_ = now;
    waiting_ = true;
  }

  std::optional<Time> due() const override {
    if (finishing_ || waiting_) return std::nullopt;
    return next_;
  }

  Result<void> consume(std::string_view bytes, Time now) override {
    return lines_.feed(bytes, [&](std::string_view line) -> Result<void> {
      const auto id = std::to_string(account_.requests);
      if (!waiting_) return unexpected(line, "nothing: request " + id + " was answered before");
      const auto body = line.substr(0, std::min(line.size(), id.size() + 1 + 2 * token_bytes));
      const auto right = std::string(body) + " " + hex(peer_crc32(raw(body), body.size()), 8);
      if (!line.starts_with(id + " ") || line != right || body == last_)
        return unexpected(line, "id " + id + ", 32 new bytes and their checksum");
      last_ = body;
      waiting_ = false;
      next_ = now + interval_;
      account_.received += line.size() + 1;
      ++account_.replies;
      account_.answers.push_back(now);
      account_.latencies.push_back({asked_, now - asked_});
      return {};
    });
  }

  bool settled() const override { return finishing_ && !waiting_; }
  bool complete() const override { return !waiting_; }
  std::string missing() const override {
    return "request " + std::to_string(account_.requests) + " is not answered";
  }

 private:
  std::chrono::milliseconds interval_;
  Time next_, asked_;
  bool opened_ = false, waiting_ = false;
  std::string last_;
  Lines lines_{"\n"};
};

class Service final : public Exchange {
 public:
  explicit Service(const ServiceOptions& options) : options_(options) {}

  void produce(Time now, std::string& out) override {
    if (!opened_) out += "SERVE " + std::to_string(options_.pages) + "\n";
    opened_ = true;
    while (!finishing_ && out.size() < out_bytes_max) {
      const auto when = next();
      if (when > now || when >= options_.end) return;
      ++account_.requests;
      const bool random = options_.random(when);
      const auto line = (random ? "R " : "D ") + std::to_string(account_.requests) + "\n";
      account_.sent += line.size();
      out += line;
      waiting_.push_back({when, random});
    }
  }

  std::optional<Time> due() const override {
    const auto when = next();
    if (finishing_ || when >= options_.end) return std::nullopt;
    return when;
  }

  Result<void> consume(std::string_view bytes, Time now) override {
    return lines_.feed(bytes, [&](std::string_view line) -> Result<void> {
      if (waiting_.empty()) return unexpected(line, "nothing");
      const auto [when, random] = waiting_.front();
      if (auto right = check(line, account_.replies + 1, random); !right) return right;
      waiting_.pop_front();
      account_.received += line.size() + 1;
      ++account_.replies;
      account_.answers.push_back(now);
      account_.latencies.push_back({when, now - when});
      return {};
    });
  }

  bool settled() const override { return finishing_ && waiting_.empty(); }
  bool complete() const override { return waiting_.empty(); }
  std::string missing() const override {
    return std::to_string(waiting_.size()) + " of " + std::to_string(account_.requests) +
           " requests are not answered";
  }

 private:
  // By multiplication: the rate stays right however long it goes on.
  Time next() const {
    const std::chrono::duration<double> since_begin(static_cast<double>(account_.requests) /
                                                    options_.requests_per_second);
    return options_.begin + std::chrono::duration_cast<Time::duration>(since_begin);
  }

  Result<void> check(std::string_view line, std::uint64_t number, bool random) {
    const auto id = std::to_string(number);
    std::string known;
    append_stream(known, number, 0, token_bytes);
    auto token = id + " ";
    for (const char byte : known) token += hex(static_cast<unsigned char>(byte), 2);
    const std::string body(line.substr(0, std::min(line.size(), token.size())));
    const bool sealed = line == body + " " + hex(peer_crc32(raw(body), body.size()), 8);
    if (!sealed || (body == token) == random || !body.starts_with(id + " "))
      return unexpected(line, "id " + id + (random ? ", 32 random bytes" : ", 32 known bytes") +
                                  " and their checksum");
    return {};
  }

  struct Request {
    Time due;
    bool random = false;
  };
  ServiceOptions options_;
  bool opened_ = false;
  std::deque<Request> waiting_;
  Lines lines_{"\n"};
};

class Counter final : public Exchange {
 public:
  Counter(const CounterOptions& options, Time now) : options_(options) {
    if (options.requests_per_second > 0) pace_.emplace(options.requests_per_second, now);
  }

  void produce(Time now, std::string& out) override {
    while (!finishing_ && waiting_.size() < (pace_ ? options_.window : 1)) {
      const auto due = pace_ ? pace_->take(now) : std::optional(now);
      if (!due) return;
      out += "INCR " + options_.key + "\r\n";
      ++account_.requests;
      waiting_.push_back(*due);
    }
  }

  std::optional<Time> due() const override {
    if (finishing_ || !pace_ || waiting_.size() >= options_.window) return std::nullopt;
    return pace_->next();
  }

  Result<void> consume(std::string_view bytes, Time now) override {
    return lines_.feed(bytes, [&](std::string_view line) -> Result<void> {
      const auto expected = ":" + std::to_string(account_.replies + 1);
      if (waiting_.empty()) return unexpected(line, "nothing");
      if (line != expected) return unexpected(line, "\"" + expected + "\"");
      ++account_.replies;
      account_.answers.push_back(now);
      account_.latencies.push_back({waiting_.front(), now - waiting_.front()});
      waiting_.pop_front();
      return {};
    });
  }

  bool settled() const override { return finishing_ && waiting_.empty(); }
  bool complete() const override { return waiting_.empty(); }
  std::string missing() const override {
    return std::to_string(waiting_.size()) + " of " + std::to_string(account_.requests) +
           " requests are not answered";
  }

 private:
  CounterOptions options_;
  std::optional<Pace> pace_;
  std::deque<Time> waiting_;
  Lines lines_{"\r\n"};
};

}  // namespace

std::unique_ptr<Exchange> make_echo(const EchoOptions& options, Time now) {
  return std::make_unique<Echo>(options, now);
}

std::unique_ptr<Exchange> make_upload(std::uint64_t seed, std::uint64_t step) {
  return std::make_unique<Upload>(seed, step);
}

std::unique_ptr<Exchange> make_download(std::uint64_t seed, std::uint64_t window) {
  return std::make_unique<Download>(seed, window);
}

std::unique_ptr<Exchange> make_random(std::chrono::milliseconds interval, Time now) {
  return std::make_unique<RandomService>(interval, now);
}

std::unique_ptr<Exchange> make_service(const ServiceOptions& options) {
  return std::make_unique<Service>(options);
}

std::unique_ptr<Exchange> make_counter(const CounterOptions& options, Time now) {
  return std::make_unique<Counter>(options, now);
}

Pace::Pace(double per_second, Time begin)
    : period_(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
          std::chrono::duration<double>(1 / per_second))),
      next_(begin) {}

std::optional<Time> Pace::take(Time now) {
  if (now < next_) return std::nullopt;
  const auto due = next_;
  next_ = std::max(next_ + period_, now - catch_up);
  return due;
}

}  // namespace tandem::survival
