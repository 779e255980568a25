#include "engine/cli/trace_command.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/base64.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/output_file.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// An interrupt is seen between two questions.
constexpr auto poll_interval = 500ms;

/// Where the frames go.
class Sink {
 public:
  static Result<Sink> open(const TraceOptions& options) {
    if (options.file == "-" && stdout_is_terminal()) {
      return Error{Errc::invalid_input,
                   "pcapng is not for a terminal: name a file, or send it to a program, as in "
                   "tandem trace " +
                       options.vm + " --pcap - | tcpdump -r -"};
    }
    // Clients' data is in it.
    auto output = OutputFile::open(options.file.empty() ? "-" : options.file, 0600);
    if (!output) return output.error();
    Sink sink(std::move(*output));
    if (options.file.empty()) return sink;
    sink.pcapng_.emplace("tandem " TANDEM_VERSION, sink.pending_);
    const auto written = sink.flush();
    if (!written) return written.error();
    return sink;
  }

  /// The frame's length.
  Result<std::size_t> add(const json& record) {
    const auto frame = captured_frame(record);
    if (!frame) return frame.error();
    if (pcapng_) {
      pcapng_->add(*frame, pending_);
    } else {
      const auto line = dump(record) + "\n";
      const auto bytes = std::as_bytes(std::span(line));
      pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    }
    return frame->frame.size();
  }

  /// Writes what was added, whole.
  Result<void> flush() {
    auto written = output_.write({reinterpret_cast<const char*>(pending_.data()), pending_.size()});
    pending_.clear();
    return written;
  }

 private:
  explicit Sink(OutputFile output) : output_(std::move(output)) {}

  OutputFile output_;
  std::optional<PcapngWriter> pcapng_;  ///< none: lines of JSON
  std::vector<std::byte> pending_;
};

class Tracer {
 public:
  Tracer(const Connection& connection, const TraceOptions& options)
      : connection_(connection), options_(options) {}

  int run() {
    note_interrupt();
    const auto traced = trace();
    if (stderr_is_terminal()) write_error("\r\x1b[K");
    // Nothing was begun if there is no sink.
    if (sink_) {
      const auto summary = trace_summary(options_, frames_, bytes_, dropped_) + "\n";
      const bool to_file = !options_.file.empty() && options_.file != "-";
      to_file ? write_out(summary) : write_error(summary);
    }
    return traced ? exit_done : fail(traced.error(), connection_.json);
  }

 private:
  Result<void> trace() {
    const auto begin = steady_clock::now();
    std::uint64_t after = 0;
    for (;;) {
      auto wait = poll_interval;
      if (options_.limit > 0s) {
        const auto left = begin + options_.limit - steady_clock::now();
        wait = std::clamp(std::chrono::ceil<milliseconds>(left), 0ms, poll_interval);
      }
      const auto answer = ask(after, wait);
      if (!answer) return answer.error();
      const auto taken = take(*answer);
      if (!taken) return taken.error();
      after = number_at(*answer, "next", after);
      if (interrupted() || wait == 0ms) return {};
    }
  }

  Result<json> ask(std::uint64_t after, milliseconds wait) const {
    const auto target = vm_path(options_.vm) + "/trace?after=" + std::to_string(after) +
                        "&wait_ms=" + std::to_string(wait.count());
    return get(connection_, target, wait + answer_limit);
  }

  Result<void> take(const json& answer) {
    if (sink_) {
      dropped_ += number_at(answer, "dropped", 0);
    } else {
      // The first answer: what was dropped before is not this reader's.
      auto sink = Sink::open(options_);
      if (!sink) return sink.error();
      sink_ = std::move(*sink);
    }
    const auto records = answer.is_object() ? answer.value("records", json()) : json();
    if (!records.is_array()) {
      return Error{Errc::protocol, "tandemd answered a trace without records"};
    }
    for (const auto& record : records) {
      const auto size = sink_->add(record);
      if (!size) return size.error();
      ++frames_;
      bytes_ += *size;
    }
    const auto flushed = sink_->flush();
    if (flushed && stderr_is_terminal()) {
      write_error("\r\x1b[K" + trace_summary(options_, frames_, bytes_, dropped_));
    }
    return flushed;
  }

  const Connection& connection_;
  const TraceOptions& options_;
  std::optional<Sink> sink_;
  std::uint64_t frames_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace

int trace_vm(const Connection& connection, const TraceOptions& options) {
  return Tracer(connection, options).run();
}

Result<CapturedFrame> captured_frame(const json& record) {
  const auto text = [&](const char* key) -> const std::string* {
    const auto found = record.is_object() ? record.find(key) : record.end();
    return found != record.end() ? found->get_ptr<const std::string*>() : nullptr;
  };
  const auto* nic = text("nic");
  const auto* side = text("side");
  const auto* comment = text("comment");
  const auto* base64 = text("frame");
  const auto time = record.is_object() ? record.find("time") : record.end();
  if (nic == nullptr || side == nullptr || comment == nullptr || base64 == nullptr ||
      time == record.end() || !time->is_number()) {
    return Error{Errc::protocol,
                 "tandemd answered a record of a trace without nic, side, comment, "
                 "time or frame"};
  }
  auto frame = decode_base64(*base64);
  if (!frame) return with_context("a frame of the trace", frame.error());
  CapturedFrame captured;
  captured.interface = *nic + " " + *side;
  const auto seconds = std::clamp(time->get<double>(), 0.0, 1e12);
  captured.time = std::chrono::microseconds(std::llround(seconds * 1e6));
  captured.comment = "epoch " + std::to_string(number_at(record, "epoch", 0));
  if (!comment->empty()) captured.comment += ": " + *comment;
  captured.frame = std::move(*frame);
  return captured;
}

std::string trace_summary(const TraceOptions& options, std::uint64_t frames, std::uint64_t bytes,
                          std::uint64_t dropped) {
  const auto to_file = !options.file.empty() && options.file != "-";
  return options.vm + ": " + std::to_string(frames) + (frames == 1 ? " frame (" : " frames (") +
         format_bytes(bytes) + ")" + (to_file ? " in " + options.file : "") + ", " +
         (dropped == 0 ? "none" : std::to_string(dropped)) + " dropped";
}

}  // namespace tandem::cli
