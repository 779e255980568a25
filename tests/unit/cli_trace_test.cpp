// `tandem trace`, against an API server that answers from a real trace buffer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <sstream>
#include <thread>

#include "base/file.hpp"
#include "engine/api/server.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/trace_command.hpp"
#include "engine/session/trace_buffer.hpp"
#include "tests/unit/packet_builder.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using session::TraceBuffer;
using session::TraceSide;
using testing::HasSubstr;

/// The API of a daemon with the VM "web", on a thread of its own.
class TracedVm {
 public:
  /// Called before question number `n`, from 1, is answered; an error is the answer.
  using BeforeAnswer = std::function<Result<void>(int n, TraceBuffer& buffer)>;

  explicit TracedVm(BeforeAnswer before, session::TraceLimits limits = {})
      : before_(std::move(before)), buffer_({"n0"}, limits) {
    auto server = api::Server::listen(io_.get_executor(), socket(), [this](api::Request request) {
      return handle(std::move(request));
    });
    if (!server) throw ErrorException(server.error());
    server_ = *server;
    asio::co_spawn(io_, server_->serve(), asio::detached);
    thread_ = std::jthread([this] { io_.run(); });
  }
  ~TracedVm() {
    io_.stop();
    thread_.join();
  }
  TracedVm(const TracedVm&) = delete;
  TracedVm& operator=(const TracedVm&) = delete;

  std::optional<json> other_answer;  ///< instead of a trace

  [[nodiscard]] std::filesystem::path socket() const { return folder_.path() / "api.sock"; }
  [[nodiscard]] std::filesystem::path file() const { return folder_.path() / "web.pcapng"; }

 private:
  Task<Result<json>> handle(api::Request request) {
    if (request.method != "GET" || request.path != "/v1/vms/web/trace") {
      co_return Error{Errc::not_found, request.path + " is not part of the API"};
    }
    const auto after = api::query_number(request, "after", 0, UINT64_MAX);
    const auto wait_ms = api::query_number(request, "wait_ms", 0, 60'000);
    if (!after || !wait_ms) co_return Error{Errc::invalid_input, "query"};
    buffer_.touch({});
    const auto ready = before_(++questions_, buffer_);
    if (!ready) co_return ready.error();
    if (other_answer) co_return Result<json>(boost::system::in_place_value, *other_answer);
    co_return Result<json>(boost::system::in_place_value, buffer_.after(*after));
  }

  BeforeAnswer before_;
  int questions_ = 0;
  TraceBuffer buffer_;
  test::TemporaryFolder folder_;
  asio::io_context io_{1};
  std::shared_ptr<api::Server> server_;
  std::jthread thread_;
};

void add(TraceBuffer& buffer, std::string comment, TraceSide side = TraceSide::primary) {
  buffer.add(std::chrono::system_clock::now(), 0, side, 3, proxy::test::tcp({.payload = "hello"}),
             std::move(comment));
}

void interrupt() {
  ::kill(::getpid(), SIGINT);
}

struct Ran {
  int status;
  std::string out, err;
};

Ran trace(const TracedVm& vm, std::optional<std::filesystem::path> file,
          std::chrono::seconds limit = 0s, const std::string& name = "web") {
  const Connection connection{vm.socket(), !file};
  const TraceOptions options{name, file ? file->string() : "", limit};
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = trace_vm(connection, options);
  auto out = testing::internal::GetCapturedStdout();
  return {status, std::move(out), testing::internal::GetCapturedStderr()};
}

/// The bytes that the writer makes of these records.
std::string expected_file(TraceBuffer& buffer) {
  std::vector<std::byte> bytes;
  PcapngWriter writer("tandem " TANDEM_VERSION, bytes);
  const auto answer = buffer.after(0);
  for (const auto& record : answer["records"]) writer.add(*captured_frame(record), bytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(CliTrace, WritesWhatIsRecordedUntilInterrupted) {
  std::string expected;
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    if (n == 2) {
      add(buffer, "released");
      add(buffer, "held", TraceSide::secondary);
    }
    if (n == 3) add(buffer, "released later");
    if (n == 4) {
      expected = expected_file(buffer);
      interrupt();
    }
    return {};
  });
  const auto ran = trace(vm, vm.file());
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.out, "web: 3 frames (177 B) in " + vm.file().string() + ", none dropped\n");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(*read_file(vm.file()), expected);
  struct stat status {};
  ASSERT_EQ(::stat(vm.file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u) << "clients' data is in it";
}

TEST(CliTrace, TakesThePlaceOfAFileThatWasThere) {
  std::string expected;
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    add(buffer, "released");
    if (n == 2) {
      expected = expected_file(buffer);
      interrupt();
    }
    return {};
  });
  test::write_text(vm.file(), std::string(10'000, 'x'));
  EXPECT_EQ(trace(vm, vm.file()).status, exit_done);
  EXPECT_EQ(*read_file(vm.file()), expected);
}

TEST(CliTrace, EndsAfterItsTime) {
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    if (n == 1) add(buffer, "released");
    // As the daemon, which waits for a record.
    std::this_thread::sleep_for(50ms);
    return {};
  });
  const auto begin = std::chrono::steady_clock::now();
  const auto ran = trace(vm, vm.file(), 1s);
  const auto time = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_GE(time, 1s);
  EXPECT_LT(time, 5s);
  EXPECT_THAT(ran.out, HasSubstr("1 frame ("));
}

TEST(CliTrace, GoesToStandardOutputAndItsSummaryElsewhere) {
  std::string expected;
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    if (n == 1) add(buffer, "released");
    if (n == 2) {
      expected = expected_file(buffer);
      interrupt();
    }
    return {};
  });
  const auto ran = trace(vm, "-");
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.out, expected);
  EXPECT_EQ(ran.err, "web: 1 frame (59 B), none dropped\n");
}

TEST(CliTrace, InJsonItIsARecordALine) {
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    add(buffer, "record " + std::to_string(n));
    if (n == 3) interrupt();
    return {};
  });
  const auto ran = trace(vm, std::nullopt);
  EXPECT_EQ(ran.status, exit_done);
  std::istringstream lines(ran.out);
  std::string line;
  int n = 0;
  while (std::getline(lines, line)) {
    const auto record = json::parse(line, nullptr, false);
    ASSERT_TRUE(record.is_object()) << line;
    EXPECT_EQ(record["seq"], ++n);
    EXPECT_EQ(record["comment"], "record " + std::to_string(n));
  }
  EXPECT_EQ(n, 3);
}

TEST(CliTrace, SaysWhatWasDroppedSinceItBegan) {
  // Somebody else has read before, so that records are gone already.
  const TracedVm vm(
      [&](int n, TraceBuffer& buffer) -> Result<void> {
        if (n == 1) {
          for (int i = 0; i < 10; ++i) add(buffer, "before");
        }
        if (n == 2) {
          for (int i = 0; i < 7; ++i) add(buffer, "too fast");
        }
        if (n == 3) interrupt();
        return {};
      },
      {.records_max = 4});
  const auto ran = trace(vm, vm.file());
  EXPECT_THAT(ran.out, HasSubstr("web: 8 frames ("));
  EXPECT_THAT(ran.out, HasSubstr(", 3 dropped\n"));
}

TEST(CliTrace, GoesOnWithABufferWhoseNumbersBeganAgain) {
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    if (n == 1) {
      for (int i = 0; i < 5; ++i) add(buffer, "first");
    }
    if (n == 2) {
      buffer = TraceBuffer({"n0"});
      buffer.touch({});
      add(buffer, "second");
    }
    if (n == 3) interrupt();
    return {};
  });
  const auto ran = trace(vm, vm.file());
  EXPECT_THAT(ran.out, HasSubstr("web: 6 frames ("));
  EXPECT_THAT(ran.out, HasSubstr("none dropped"));
}

TEST(CliTrace, AnUnknownVmLeavesFilesAlone) {
  const TracedVm vm([](int, TraceBuffer&) -> Result<void> { return {}; });
  test::write_text(vm.file(), "precious");
  const auto ran = trace(vm, vm.file(), 0s, "wed");
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.err, testing::StartsWith("tandem: "));
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(*read_file(vm.file()), "precious");
}

TEST(CliTrace, WhatCameBeforeAnErrorIsInTheFile) {
  std::string expected;
  const TracedVm vm([&](int n, TraceBuffer& buffer) -> Result<void> {
    if (n == 1) add(buffer, "released");
    if (n == 2) {
      expected = expected_file(buffer);
      return Error{Errc::conflict, "web is not protected any more"};
    }
    return {};
  });
  const auto ran = trace(vm, vm.file());
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.out, HasSubstr("1 frame ("));
  EXPECT_EQ(ran.err, "tandem: web is not protected any more\n");
  EXPECT_EQ(*read_file(vm.file()), expected);
}

TEST(CliTrace, AFileThatCannotBeWrittenIsNamed) {
  const TracedVm vm([](int, TraceBuffer&) -> Result<void> { return {}; });
  const auto ran = trace(vm, vm.file() / "no-folder");
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.err, HasSubstr(vm.file().string() + "/no-folder"));
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "there is no /dev/full";
  const auto full = trace(vm, "/dev/full");
  EXPECT_EQ(full.status, exit_failed);
  EXPECT_THAT(full.err, HasSubstr("/dev/full"));
}

TEST(CliTrace, AnAnswerThatIsNoTraceIsAnError) {
  for (const auto& other :
       {json(), json::array(), json{{"records", 5}}, json{{"records", json::array({5})}}}) {
    TracedVm vm([](int, TraceBuffer&) -> Result<void> { return {}; });
    vm.other_answer = other;
    const auto ran = trace(vm, vm.file());
    EXPECT_EQ(ran.status, exit_failed) << other;
    EXPECT_THAT(ran.err, HasSubstr("tandem: tandemd answered a ")) << other;
  }
}

}  // namespace
}  // namespace tandem::cli
