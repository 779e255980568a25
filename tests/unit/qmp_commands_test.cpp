#include "qmp/commands.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/this_coro.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/qmp_scripted_monitor.hpp"

// g++ 12 takes an inlined coroutine's frame, which has an operator new and delete of its own, for a
// mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

namespace tandem::qmp {
namespace {

using nlohmann::json;
using test::connected;
using test::run;
using test::ScriptedMonitor;
using test::start;

/// Runs `command` against a monitor that must get `expected` (without its id) and answers `value`;
/// what the command made of that goes to `result`.
template <class T, class Command>
Task<> exchange(Command command, std::string expected, std::string value,
                std::optional<Result<T>>* result) {
  const auto executor = co_await asio::this_coro::executor;
  ScriptedMonitor monitor(executor);
  const auto client = co_await connected(monitor);
  CO_ASSERT(client);
  auto running = start(executor, command(*client));
  auto request = co_await monitor.receive();
  CO_ASSERT(request);
  const json id = (*request)["id"];
  request->erase("id");
  EXPECT_EQ(*request, json::parse(expected));
  co_await monitor.reply(id, json::parse(value));
  auto outcome = co_await running.result();
  result->emplace(std::move(outcome));
}

template <class T, class Command>
Result<T> ask(Command command, const std::string& expected, const std::string& value) {
  std::optional<Result<T>> result;
  run([&]() { return exchange<T>(command, expected, value, &result); });
  if (!result) return Error{Errc::invalid_input, "the exchange did not come to its end"};
  return std::move(*result);
}

/// For commands that answer nothing.
template <class Command>
void tell(Command command, const std::string& expected) {
  const auto done = ask<void>(command, expected, "{}");
  EXPECT_TRUE(done) << done.error().message;
}

TEST(QmpCommands, SayWhatQemusSchemaAsksFor) {
  tell([](Client& c) { return cont(c); }, R"({"execute": "cont"})");
  tell([](Client& c) { return stop(c); }, R"({"execute": "stop"})");
  tell([](Client& c) { return quit(c); }, R"({"execute": "quit"})");
  tell([](Client& c) { return system_powerdown(c); }, R"({"execute": "system_powerdown"})");
  tell([](Client& c) { return migrate(c, "unix:/x"); },
       R"({"execute": "migrate", "arguments": {"uri": "unix:/x"}})");
  tell([](Client& c) { return migrate_incoming(c, "fd:m"); },
       R"({"execute": "migrate-incoming", "arguments": {"uri": "fd:m"}})");
  tell([](Client& c) { return migrate_cancel(c); }, R"({"execute": "migrate_cancel"})");
  tell([](Client& c) { return colo_lost_heartbeat(c); }, R"({"execute": "x-colo-lost-heartbeat"})");
  tell([](Client& c) { return getfd(c, "n", STDIN_FILENO); },
       R"({"execute": "getfd", "arguments": {"fdname": "n"}})");
  tell([](Client& c) { return closefd(c, "n"); },
       R"({"execute": "closefd", "arguments": {"fdname": "n"}})");
  tell([](Client& c) { return remove_chardev(c, "c"); },
       R"({"execute": "chardev-remove", "arguments": {"id": "c"}})");
  tell([](Client& c) { return delete_object(c, "m"); },
       R"({"execute": "object-del", "arguments": {"id": "m"}})");
  tell([](Client& c) { return announce_self(c); },
       R"({"execute": "announce-self",
           "arguments": {"initial": 20, "max": 100, "rounds": 5, "step": 20}})");
}

TEST(QmpCommands, SetCapabilitiesAndParameters) {
  const std::vector<std::pair<std::string, bool>> capabilities = {{"x-colo", true},
                                                                  {"return-path", false}};
  tell([&](Client& c) { return set_capabilities(c, capabilities); },
       R"({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
           {"capability": "x-colo", "state": true}, {"capability": "return-path", "state": false}]}})");
  MigrationParameters parameters;
  parameters.checkpoint_delay_ms = 250;
  tell([&](Client& c) { return set_parameters(c, parameters); },
       R"({"execute": "migrate-set-parameters", "arguments": {"x-checkpoint-delay": 250}})");
  parameters.max_bandwidth = 100'000'000'000;
  tell([&](Client& c) { return set_parameters(c, parameters); },
       R"({"execute": "migrate-set-parameters",
           "arguments": {"x-checkpoint-delay": 250, "max-bandwidth": 100000000000}})");
  MigrationParameters secondary;
  secondary.announce_rounds = 0;
  tell([&](Client& c) { return set_parameters(c, secondary); },
       R"({"execute": "migrate-set-parameters", "arguments": {"announce-rounds": 0}})");
}

TEST(QmpCommands, AFilterIsSwitchedOnByItsPath) {
  tell([](Client& c) { return switch_filter_on(c, "tnd-n0-capture"); },
       R"({"execute": "qom-set", "arguments": {"path": "/objects/tnd-n0-capture",
           "property": "status", "value": "on"}})");
}

TEST(QmpCommands, ChardevsAndFilters) {
  tell([](Client& c) { return add_fd_chardev(c, "c", "n"); },
       R"({"execute": "chardev-add", "arguments": {"id": "c", "backend": {"type": "socket",
           "data": {"addr": {"type": "fd", "data": {"str": "n"}}, "server": false}}}})");
  tell([](Client& c) { return add_unix_chardev(c, "c", "/p"); },
       R"({"execute": "chardev-add", "arguments": {"id": "c", "backend": {"type": "socket",
           "data": {"addr": {"type": "unix", "data": {"path": "/p"}}, "server": false}}}})");
  tell([](Client& c) { return add_filter_mirror(c, "m", "n0", FilterQueue::tx, "c"); },
       R"({"execute": "object-add", "arguments": {"qom-type": "filter-mirror", "id": "m",
           "netdev": "n0", "queue": "tx", "outdev": "c", "vnet_hdr_support": true}})");
  tell([](Client& c) { return add_filter_redirector(c, "i", "n0", FilterQueue::rx, "c", ""); },
       R"({"execute": "object-add", "arguments": {"qom-type": "filter-redirector", "id": "i",
           "netdev": "n0", "queue": "rx", "indev": "c", "vnet_hdr_support": true}})");
  tell([](Client& c) { return add_filter_redirector(c, "o", "n0", FilterQueue::rx, "", "c"); },
       R"({"execute": "object-add", "arguments": {"qom-type": "filter-redirector", "id": "o",
           "netdev": "n0", "queue": "rx", "outdev": "c", "vnet_hdr_support": true}})");
}

TEST(QmpCommands, ReadTheirAnswers) {
  const auto status =
      ask<Status>([](Client& c) { return query_status(c); }, R"({"execute": "query-status"})",
                  R"({"status": "colo", "singlestep": false, "running": true})");
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->running);
  EXPECT_EQ(status->state, "colo");

  const auto idle = ask<MigrationStatus>([](Client& c) { return query_migrate(c); },
                                         R"({"execute": "query-migrate"})", "{}");
  ASSERT_TRUE(idle);
  EXPECT_EQ(idle->status, "none");

  const auto failed = ask<MigrationStatus>([](Client& c) { return query_migrate(c); },
                                           R"({"execute": "query-migrate"})",
                                           R"({"status": "failed", "error-desc": "no route",
          "ram": {"transferred": 5, "remaining": 6, "total": 7, "mbps": 1.5}})");
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->status, "failed");
  EXPECT_EQ(failed->description, "no route");
  EXPECT_EQ(failed->ram_transferred, 5U);
  EXPECT_EQ(failed->ram_remaining, 6U);
  EXPECT_EQ(failed->ram_total, 7U);

  using Names = std::vector<std::string>;
  const auto chardevs =
      ask<Names>([](Client& c) { return query_chardevs(c); }, R"({"execute": "query-chardev"})",
                 R"([{"label": "a", "filename": "x", "frontend-open": true}, {"label": "b"}])");
  ASSERT_TRUE(chardevs);
  EXPECT_EQ(*chardevs, (Names{"a", "b"}));

  const auto objects = ask<Names>([](Client& c) { return list_objects(c); },
                                  R"({"execute": "qom-list", "arguments": {"path": "/objects"}})",
                                  R"([{"name": "type", "type": "string"},
                     {"name": "m", "type": "child<filter-mirror>"}])");
  ASSERT_TRUE(objects);
  EXPECT_EQ(*objects, (Names{"m"}));
}

TEST(QmpCommands, RefuseAnswersOfTheWrongShape) {
  for (const char* const value : {"[]", "{}", "7", R"({"status": 1, "running": true})",
                                  R"({"status": "running", "running": "yes"})"}) {
    const auto status = ask<Status>([](Client& c) { return query_status(c); },
                                    R"({"execute": "query-status"})", value);
    ASSERT_FALSE(status) << value;
    EXPECT_EQ(status.error().code, Errc::protocol);
  }
  for (const char* const value : {"[]", R"({"status": 1})"}) {
    const auto status = ask<MigrationStatus>([](Client& c) { return query_migrate(c); },
                                             R"({"execute": "query-migrate"})", value);
    ASSERT_FALSE(status) << value;
    EXPECT_EQ(status.error().code, Errc::protocol);
  }
  using Names = std::vector<std::string>;
  for (const char* const value : {"{}", "[1]", "[{}]", R"([{"label": 1}])"}) {
    const auto names = ask<Names>([](Client& c) { return query_chardevs(c); },
                                  R"({"execute": "query-chardev"})", value);
    ASSERT_FALSE(names) << value;
    EXPECT_EQ(names.error().code, Errc::protocol);
  }
  for (const char* const value : {"{}", "[null]", R"([{"name": "x"}])"}) {
    const auto names =
        ask<Names>([](Client& c) { return list_objects(c); },
                   R"({"execute": "qom-list", "arguments": {"path": "/objects"}})", value);
    ASSERT_FALSE(names) << value;
    EXPECT_EQ(names.error().code, Errc::protocol);
  }
}

TEST(QmpCommands, WhatCannotBeMeantIsNotSent) {
  run([]() -> Task<> {
    const auto executor = co_await asio::this_coro::executor;
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    const auto neither = co_await add_filter_redirector(*client, "i", "n", FilterQueue::rx, "", "");
    const auto both = co_await add_filter_redirector(*client, "i", "n", FilterQueue::rx, "a", "b");
    const auto no_fd = co_await getfd(*client, "n", -1);
    CO_ASSERT(!neither && !both && !no_fd);
    EXPECT_EQ(neither.error().code, Errc::invalid_input);
    EXPECT_EQ(both.error().code, Errc::invalid_input);
    EXPECT_EQ(no_fd.error().code, Errc::invalid_input);
    EXPECT_TRUE(monitor.nothing_to_read());
  });
}

TEST(QmpCommands, QuitSucceedsWhenTheProcessGoesInsteadOfAnswering) {
  run([]() -> Task<> {
    const auto executor = co_await asio::this_coro::executor;
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    auto quitting = start(executor, quit(*client));
    auto stopping = start(executor, stop(*client));
    co_await monitor.receive();
    co_await monitor.receive();
    monitor.close();
    const auto quit_done = co_await quitting.result();
    const auto stop_done = co_await stopping.result();
    EXPECT_TRUE(quit_done);
    CO_ASSERT(!stop_done);
    EXPECT_EQ(stop_done.error().code, Errc::closed);
  });
}

}  // namespace
}  // namespace tandem::qmp
