#include "qmp/client.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <string>
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
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using test::connected;
using test::run;
using test::ScriptedMonitor;
using test::settle;
using test::start;
using Answer = Result<json>;

/// Runs `command` on its own.
test::Started<Answer> launch(asio::any_io_executor executor, const std::shared_ptr<Client>& client,
                             const std::string& command, ExecuteOptions options = {},
                             const json& arguments = json::object()) {
  return start(executor, client->execute(command, arguments, options));
}

Errc code(const Answer& answer) {
  return answer ? Errc::conflict : answer.error().code;
}

ExecuteOptions out_of_band() {
  ExecuteOptions options;
  options.out_of_band = true;
  return options;
}

ExecuteOptions within(milliseconds timeout) {
  ExecuteOptions options;
  options.timeout = timeout;
  return options;
}

ExecuteOptions with_fd(int fd) {
  ExecuteOptions options;
  options.fd = fd;
  return options;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

#define EXECUTOR() co_await asio::this_coro::executor

// ----------------------------------------------------------------------------------------
// connecting

TEST(QmpClientConnect, ReadsTheVersionAndEnablesOutOfBandWhereOffered) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    auto connecting = start(executor, Client::connect(monitor.path()));
    const json enabled = co_await monitor.negotiate(std::string(test::greeting));
    EXPECT_EQ(enabled, json::parse(R"({"enable": ["oob"]})"));
    const auto client = co_await connecting.result();
    CO_ASSERT_OK(client);
    EXPECT_EQ((*client)->version(), (Version{7, 2, 22, "Debian"}));
    EXPECT_TRUE((*client)->supports_out_of_band());
    EXPECT_TRUE((*client)->is_open());
  });
}

TEST(QmpClientConnect, EnablesNothingWhereNothingIsOffered) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    auto connecting = start(executor, Client::connect(monitor.path()));
    const json enabled = co_await monitor.negotiate(std::string(test::greeting_without_oob));
    EXPECT_EQ(enabled, json::object());
    const auto client = co_await connecting.result();
    CO_ASSERT_OK(client);
    EXPECT_EQ((*client)->version(), (Version{11, 1, 0, ""}));
    EXPECT_FALSE((*client)->supports_out_of_band());

    const Answer refused = co_await (*client)->execute("yank", json::object(), out_of_band());
    EXPECT_EQ(code(refused), Errc::unavailable);
    EXPECT_TRUE(monitor.nothing_to_read());
    EXPECT_TRUE((*client)->is_open());
  });
}

TEST(QmpClientConnect, NobodyListens) {
  run([]() -> Task<> {
    test::TemporaryFolder folder;
    const auto absent = co_await Client::connect(folder / "absent.sock");
    CO_ASSERT(!absent);
    EXPECT_EQ(absent.error().code, Errc::unavailable);
    EXPECT_NE(absent.error().message.find("absent.sock"), std::string::npos);

    std::string left_behind;
    const auto executor = EXECUTOR();
    asio::local::stream_protocol::acceptor acceptor(
        executor, asio::local::stream_protocol::endpoint(folder / "dead.sock"));
    acceptor.close();
    const auto dead = co_await Client::connect(folder / "dead.sock");
    CO_ASSERT(!dead);
    EXPECT_EQ(dead.error().code, Errc::unavailable);
  });
}

TEST(QmpClientConnect, AFullListenerIsUnavailable) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    test::TemporaryFolder folder;
    const asio::local::stream_protocol::endpoint endpoint(folder / "full.sock");
    asio::local::stream_protocol::acceptor acceptor(executor);
    acceptor.open(endpoint.protocol());
    acceptor.bind(endpoint);
    acceptor.listen(0);
    asio::local::stream_protocol::socket first(executor);
    first.connect(endpoint);
    const auto second = co_await Client::connect(endpoint.path());
    CO_ASSERT(!second);
    EXPECT_EQ(second.error().code, Errc::unavailable);
  });
}

TEST(QmpClientConnect, RefusesAPathThatCannotBeASocket) {
  run([]() -> Task<> {
    const std::string paths[] = {std::string(), "/tmp/" + std::string(200, 'x')};
    for (const std::string& path : paths) {
      const auto client = co_await Client::connect(path);
      CO_ASSERT(!client);
      EXPECT_EQ(client.error().code, Errc::invalid_input);
    }
  });
}

TEST(QmpClientConnect, TimesOutOnSilence) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ClientOptions options;
    options.connect_timeout = milliseconds(30);
    for (const std::string& said :
         {std::string(), std::string("{\"QMP\": "), std::string(test::greeting)}) {
      ScriptedMonitor monitor(executor);
      auto connecting = start(executor, Client::connect(monitor.path(), options));
      co_await monitor.accept();
      co_await monitor.send_bytes(said);
      const auto client = co_await connecting.result();
      CO_ASSERT(!client);
      EXPECT_EQ(client.error().code, Errc::timed_out) << "after '" << said << "'";
      // The connection is not left open behind the error.
      while (co_await monitor.receive()) {
      }
    }
  });
}

/// What connect() says when the peer says `first`, and `second` once the client has negotiated.
Task<Errc> connect_to(std::string first, std::string second, bool close) {
  const auto executor = co_await asio::this_coro::executor;
  ScriptedMonitor monitor(executor);
  auto connecting = start(executor, Client::connect(monitor.path()));
  co_await monitor.accept();
  co_await monitor.send_bytes(first);
  if (!second.empty()) {
    const auto request = co_await monitor.receive();
    EXPECT_TRUE(request);
    co_await monitor.send_bytes(second);
  }
  if (close) monitor.close();
  const auto client = co_await connecting.result();
  co_return client ? Errc::conflict : client.error().code;
}

TEST(QmpClientConnect, RefusesWhatIsNotQmp) {
  run([]() -> Task<> {
    const std::string hello(test::greeting);
    const std::string first[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\n",
        "{}\n",
        "[1, 2]\n",
        "{\"QMP\": 3}\n",
        "{\"return\": {}, \"id\": 1}\n",
        R"({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 1}})"
        "\n",
        std::string("\0\xff\n", 3),
    };
    for (const std::string& bytes : first) {
      const Errc said = co_await connect_to(bytes, "", false);
      EXPECT_EQ(said, Errc::protocol) << bytes;
    }
    const std::string second[] = {
        "garbage\r\n",
        hello,
        "{\"return\": {}, \"id\": 99}\r\n",
        "{\"return\": {}, \"id\": \"1\"}\r\n",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n",
    };
    for (const std::string& bytes : second) {
      const Errc said = co_await connect_to(hello, bytes, false);
      EXPECT_EQ(said, Errc::protocol) << bytes;
    }
  });
}

TEST(QmpClientConnect, ARefusedNegotiationIsRefused) {
  run([]() -> Task<> {
    const Errc said = co_await connect_to(
        std::string(test::greeting),
        "{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n", false);
    EXPECT_EQ(said, Errc::refused);
  });
}

TEST(QmpClientConnect, APeerThatGoesIsClosed) {
  run([]() -> Task<> {
    const std::string hello(test::greeting);
    const Errc at_once = co_await connect_to("", "", true);
    EXPECT_EQ(at_once, Errc::closed);
    const Errc in_greeting = co_await connect_to(hello.substr(0, 20), "", true);
    EXPECT_EQ(in_greeting, Errc::closed);
    const Errc in_negotiation = co_await connect_to(hello, "{\"return\": {", true);
    EXPECT_EQ(in_negotiation, Errc::closed);
  });
}

TEST(QmpClientConnect, AnEventMayComeBeforeTheNegotiationIsAnswered) {
  run([]() -> Task<> {
    const Errc said = co_await connect_to(
        std::string(test::greeting),
        "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 1}}\r\n"
        "{\"return\": {}, \"id\": 1}\r\n",
        false);
    EXPECT_EQ(said, Errc::conflict) << "connected";
  });
}

// ------------------------------------------------------------------------------- commands and
// events

/// Sends what the monitor says, with one pause in it after `cut` bytes.
struct CutSender {
  ScriptedMonitor& monitor;
  std::size_t cut;
  std::size_t sent = 0;

  Task<> say(std::string bytes) {
    const std::size_t begin = sent;
    sent += bytes.size();
    if (cut > begin && cut < sent) {
      co_await monitor.send_bytes(bytes.substr(0, cut - begin));
      co_await settle();
      bytes.erase(0, cut - begin);
    }
    co_await monitor.send_bytes(bytes);
  }
};

/// One conversation in which everything happens, with the monitor's bytes cut at `cut`; what the
/// client made of it, in order.
Task<std::vector<std::string>> converse(std::size_t cut, std::size_t* total) {
  const auto executor = co_await asio::this_coro::executor;
  std::vector<std::string> log;
  ScriptedMonitor monitor(executor);
  CutSender sender{monitor, cut};
  auto connecting = start(executor, Client::connect(monitor.path()));
  co_await monitor.accept();
  co_await sender.say(std::string(test::greeting));
  const auto negotiation = co_await monitor.receive();
  CO_ASSERT_RETURN(negotiation, log);
  co_await sender.say("{\"return\": {}, \"id\": " + (*negotiation)["id"].dump() + "}\r\n");
  const auto client = co_await connecting.result();
  CO_ASSERT_RETURN(client, log);
  log.push_back(to_string((*client)->version()));
  (*client)->on_event([&log](const Event& event) {
    log.push_back(event.name + " " + std::to_string(event.at.time_since_epoch().count()) + " " +
                  event.data.dump());
  });
  test::Signal closed(executor);
  (*client)->on_close([&log, closed](const Error& error) {
    log.push_back("closed: " + std::string(tandem::to_string(error.code)));
    closed.set();
  });

  auto one = launch(executor, *client, "query-one");
  auto two = launch(executor, *client, "query-two");
  auto three = launch(executor, *client, "query-three");
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    const auto request = co_await monitor.receive();
    CO_ASSERT_RETURN(request, log);
    ids.push_back((*request)["id"].dump());
  }
  // Events between replies, and the second command answered first, all in one write.
  co_await sender.say(
      R"({"timestamp": {"seconds": 1700000000, "microseconds": 5}, "event": "STOP"})"
      "\r\n"
      R"({"return": {"text": "a\nb\\\"}{"}, "id": )" +
      ids[1] +
      "}\r\n"
      R"({"timestamp": {"seconds": 1700000000, "microseconds": 6}, "event": "RESUME", "data": {"x": [1]}})"
      "\r\n"
      R"({"id": )" +
      ids[0] + R"(, "error": {"class": "GenericError", "desc": "no"}})" + "\r\n");
  const Answer second = co_await two.result();
  log.push_back(second ? second->dump() : second.error().message);
  const Answer first = co_await one.result();
  log.push_back(std::string(tandem::to_string(code(first))));
  co_await sender.say("{\"return\": [], ");
  monitor.close();
  const Answer third = co_await three.result();
  log.push_back("third " + std::string(tandem::to_string(code(third))));
  co_await closed.wait();
  *total = sender.sent;
  co_return log;
}

std::vector<std::string> expected_log() {
  return {"7.2.22",
          "STOP 1700000000000005000 {}",
          "RESUME 1700000000000006000 {\"x\":[1]}",
          R"({"text":"a\nb\\\"}{"})",
          "refused",
          "closed: closed",
          "third closed"};
}

TEST(QmpClient, AConversationIsTheSameWhereverItsBytesAreCut) {
  run(
      []() -> Task<> {
        std::size_t total = 0;
        const auto whole = co_await converse(0, &total);
        const std::vector<std::string> expected = expected_log();
        EXPECT_EQ(whole, expected);
        EXPECT_GT(total, 400U);
        for (std::size_t cut = 1; cut < total; ++cut) {
          std::size_t length = 0;
          auto log = co_await converse(cut, &length);
          EXPECT_EQ(log, expected) << "cut at " << cut;
        }
      },
      seconds(40));
}

TEST(QmpClient, SendsCommandAndArguments) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    const json arguments = json::parse(R"({"uri": "unix:/x", "n": [1, {"a": null}]})");
    auto running = launch(executor, client, "migrate", {}, arguments);
    auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "migrate");
    EXPECT_EQ((*request)["arguments"], arguments);
    const json value = json::parse("[1, 2]");
    co_await monitor.reply((*request)["id"], value);
    const Answer answer = co_await running.result();
    CO_ASSERT_OK(answer);
    EXPECT_EQ(*answer, value);
  });
}

TEST(QmpClient, RepliesFindTheirCommandsInAnyOrder) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::vector<test::Started<Answer>> running;
    std::vector<json> ids;
    for (int i = 0; i < 5; ++i) {
      running.push_back(launch(executor, client, "c" + std::to_string(i)));
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      EXPECT_EQ((*request)["execute"], "c" + std::to_string(i));
      ids.push_back((*request)["id"]);
    }
    const std::size_t order[] = {3U, 0U, 4U, 2U, 1U};
    for (const std::size_t i : order) {
      co_await monitor.event("BETWEEN");
      co_await monitor.reply(ids[i], i);
    }
    for (std::size_t i = 0; i < running.size(); ++i) {
      const Answer answer = co_await running[i].result();
      CO_ASSERT_OK(answer);
      EXPECT_EQ(*answer, i);
    }
  });
}

TEST(QmpClient, QemusErrorsAreRefusedWithClassAndText) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    auto running = launch(executor, client, "object-del");
    const auto request = co_await monitor.receive();
    CO_ASSERT(request);
    json message =
        json::parse(R"({"error": {"class": "GenericError", "desc": "object 'x' not found"}})");
    message["id"] = (*request)["id"];
    co_await monitor.send(message);
    const Answer answer = co_await running.result();
    CO_ASSERT(!answer);
    EXPECT_EQ(answer.error().code, Errc::refused);
    for (const char* const part :
         {"object-del", "GenericError", "object 'x' not found", "qmp.sock"}) {
      EXPECT_NE(answer.error().message.find(part), std::string::npos) << answer.error().message;
    }
    EXPECT_TRUE(client->is_open());
  });
}

TEST(QmpClient, EventsReachTheHandlerInOrderAndAHandlerMayReplaceItself) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::vector<std::string> seen;
    test::Signal done(executor);
    const auto token = std::make_shared<int>(0);
    std::weak_ptr<int> first_handler_lives = token;
    client->on_event([&, raw = client.get(), token = std::move(token)](const Event& event) {
      seen.push_back("first " + event.name);
      raw->on_event([&](const Event& later) {
        seen.push_back("second " + later.name);
        if (later.name == "C") done.set();
      });
      // What the replaced handler holds must live until it returns.
      EXPECT_EQ(*token, 0);
      seen.push_back("replaced");
    });
    co_await monitor.event("A", 10, 1);
    co_await monitor.event("B", 10, 2);
    co_await monitor.event("C", 10, 3);
    co_await done.wait();
    EXPECT_EQ(joined(seen), "first A, replaced, second B, second C");
  });
}

TEST(QmpClient, RefusesArgumentsThatCannotBeSent) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    const json list = json::parse("[1]");
    const Answer not_object = co_await client->execute("x", list);
    EXPECT_EQ(code(not_object), Errc::invalid_input);
    json invalid = json::object();
    invalid["path"] = "\xff\xfe";
    const Answer not_utf8 = co_await client->execute("x", invalid);
    EXPECT_EQ(code(not_utf8), Errc::invalid_input);
    const Answer no_fd = co_await client->execute("getfd", json::object(), with_fd(987654));
    EXPECT_EQ(code(no_fd), Errc::io);
    EXPECT_TRUE(monitor.nothing_to_read());
    EXPECT_TRUE(client->is_open());
  });
}

// ------------------------------------------------------------------------------------ limits and
// time

TEST(QmpClient, ALateAnswerIsDiscardedAndDisturbsNothing) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    const Answer late = co_await client->execute("slow", json::object(), within(milliseconds(10)));
    EXPECT_EQ(code(late), Errc::timed_out);
    EXPECT_TRUE(client->is_open());
    const auto slow = co_await monitor.receive();
    CO_ASSERT(slow);

    auto next = launch(executor, client, "next");
    const auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_NE((*request)["id"], (*slow)["id"]);
    co_await monitor.reply((*slow)["id"], "late");
    co_await monitor.reply((*request)["id"], "right");
    const Answer answer = co_await next.result();
    CO_ASSERT_OK(answer);
    EXPECT_EQ(*answer, "right");
    EXPECT_TRUE(client->is_open());

    // It was late once; a second time it is no answer to anything.
    test::Signal closed(executor);
    Errc why = Errc::conflict;
    client->on_close([&](const Error& error) {
      why = error.code;
      closed.set();
    });
    co_await monitor.reply((*slow)["id"], "again");
    co_await closed.wait();
    EXPECT_EQ(why, Errc::protocol);
  });
}

TEST(QmpClient, KeepsQemusQueueShortSoThatOutOfBandCommandsPass) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::vector<test::Started<Answer>> running;
    for (int i = 0; i < 10; ++i) {
      running.push_back(launch(executor, client, "c" + std::to_string(i)));
    }
    co_await settle();
    auto urgent = launch(executor, client, "yank", out_of_band());

    std::vector<json> ids;
    for (int i = 0; i < 7; ++i) {
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      EXPECT_EQ((*request)["execute"], "c" + std::to_string(i));
      ids.push_back((*request)["id"]);
    }
    const auto passed = co_await monitor.receive();
    CO_ASSERT(passed);
    CO_ASSERT(passed->contains("exec-oob"));
    EXPECT_EQ((*passed)["exec-oob"], "yank");
    EXPECT_FALSE(passed->contains("execute"));
    co_await monitor.reply((*passed)["id"]);
    const Answer done = co_await urgent.result();
    EXPECT_TRUE(done);
    EXPECT_TRUE(monitor.nothing_to_read()) << "more than 7 in-band commands on the way";

    // Each answer lets one more go, in order.
    for (int i = 7; i < 10; ++i) {
      co_await monitor.reply(ids.front());
      ids.erase(ids.begin());
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      EXPECT_EQ((*request)["execute"], "c" + std::to_string(i));
      ids.push_back((*request)["id"]);
    }
    for (const json& id : ids) co_await monitor.reply(id);
    for (const auto& each : running) {
      const Answer answer = co_await each.result();
      EXPECT_TRUE(answer);
    }
  });
}

TEST(QmpClient, ACommandThatTimesOutUnsentIsNeverSent) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::vector<test::Started<Answer>> running;
    for (int i = 0; i < 7; ++i) running.push_back(launch(executor, client, "c"));
    co_await settle();
    auto unsent = launch(executor, client, "unsent", within(milliseconds(10)));
    auto after = launch(executor, client, "after");
    const Answer given_up = co_await unsent.result();
    EXPECT_EQ(code(given_up), Errc::timed_out);
    for (int i = 0; i < 7; ++i) {
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      EXPECT_EQ((*request)["execute"], "c");
      co_await monitor.reply((*request)["id"]);
    }
    const auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "after");
    co_await monitor.reply((*request)["id"]);
    const Answer answer = co_await after.result();
    EXPECT_TRUE(answer);
  });
}

TEST(QmpClient, TakesNoMoreCommandsThanThePendingLimit) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    ClientOptions options;
    options.pending_max = 3;
    const auto client = co_await connected(monitor, options);
    CO_ASSERT(client);
    auto one = launch(executor, client, "one");
    auto two = launch(executor, client, "two");
    // One that has timed out has no answer either.
    auto three = launch(executor, client, "three", within(milliseconds(10)));
    const Answer late = co_await three.result();
    EXPECT_EQ(code(late), Errc::timed_out);
    const Answer over = co_await client->execute("four");
    EXPECT_EQ(code(over), Errc::limit);

    const auto request = co_await monitor.receive();
    CO_ASSERT(request);
    co_await monitor.reply((*request)["id"]);
    const Answer first = co_await one.result();
    EXPECT_TRUE(first);
    auto again = launch(executor, client, "again");
    const char* const names[] = {"two", "three", "again"};
    for (const char* const name : names) {
      const auto next = co_await monitor.receive();
      CO_ASSERT(next);
      EXPECT_EQ((*next)["execute"], name);
      co_await monitor.reply((*next)["id"]);
    }
    const Answer last = co_await again.result();
    EXPECT_TRUE(last);
    const Answer second = co_await two.result();
    EXPECT_TRUE(second);
  });
}

TEST(QmpClient, AnOverlongMessageEndsTheConnection) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    const bool endings[] = {false, true};
    for (const bool ended : endings) {
      ScriptedMonitor monitor(executor);
      ClientOptions options;
      options.message_bytes_max = 1000;
      const auto client = co_await connected(monitor, options);
      CO_ASSERT(client);
      auto fits = launch(executor, client, "fits");
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      std::string reply = "{\"return\": \"\", \"id\": " + (*request)["id"].dump() + "}";
      reply.insert(12, 1000 - reply.size(), 'x');
      EXPECT_EQ(reply.size(), 1000U);
      co_await monitor.send_bytes(reply + "\r\n");
      const Answer answer = co_await fits.result();
      EXPECT_TRUE(answer);

      Errc why = Errc::conflict;
      client->on_close([&](const Error& error) { why = error.code; });
      auto waiting = launch(executor, client, "waiting");
      co_await monitor.receive();
      co_await monitor.send_bytes(std::string(1001, 'x') + (ended ? "\r\n" : ""));
      const Answer lost = co_await waiting.result();
      EXPECT_EQ(code(lost), Errc::closed);
      EXPECT_EQ(why, Errc::limit);
      EXPECT_FALSE(client->is_open());
    }
  });
}

TEST(QmpClient, CarriesMessagesLargerThanTheSocketBothWays) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    json big = json::object();
    big["text"] = std::string(3'000'000, 'q');
    auto first = launch(executor, client, "first", {}, big);
    auto second = launch(executor, client, "second");
    // The first fills the socket; only once the monitor reads can the rest follow.
    co_await settle();
    auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["arguments"], big);
    co_await monitor.reply((*request)["id"], big);
    const Answer echoed = co_await first.result();
    CO_ASSERT_OK(echoed);
    EXPECT_EQ(*echoed, big);
    request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "second");
    co_await monitor.reply((*request)["id"]);
    const Answer answer = co_await second.result();
    EXPECT_TRUE(answer);
  });
}

TEST(QmpClient, ACommandThatTimesOutHalfWrittenIsWrittenToItsEnd) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    json big = json::object();
    big["text"] = std::string(3'000'000, 'q');
    auto first = launch(executor, client, "first", within(milliseconds(20)), big);
    const Answer late = co_await first.result();
    EXPECT_EQ(code(late), Errc::timed_out);
    auto second = launch(executor, client, "second");
    auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "first");
    co_await monitor.reply((*request)["id"]);
    request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "second");
    co_await monitor.reply((*request)["id"]);
    const Answer answer = co_await second.result();
    EXPECT_TRUE(answer);
  });
}

// --------------------------------------------------------------------------------------
// descriptors

TEST(QmpClient, ADescriptorArrivesWithItsCommand) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::array<int, 2> ends{};
    CO_ASSERT(::pipe2(ends.data(), O_CLOEXEC) == 0);
    UniqueFd ours(ends[0]);
    UniqueFd sent(ends[1]);
    auto running = launch(executor, client, "getfd", with_fd(sent.get()));
    auto plain = launch(executor, client, "query-status");
    const auto getfd = co_await monitor.receive();
    CO_ASSERT(getfd);
    EXPECT_EQ((*getfd)["execute"], "getfd");
    CO_ASSERT(monitor.descriptors().size() == 1);
    co_await monitor.reply((*getfd)["id"]);
    const Answer answer = co_await running.result();
    EXPECT_TRUE(answer);
    EXPECT_GE(::fcntl(sent.get(), F_GETFD), 0) << "the caller keeps its own";

    const UniqueFd received = std::move(monitor.descriptors().front());
    monitor.descriptors().pop_front();
    CO_ASSERT(::write(received.get(), "hello", 5) == 5);
    std::array<char, 8> bytes{};
    EXPECT_EQ(::read(ours.get(), bytes.data(), bytes.size()), 5);
    EXPECT_STREQ(bytes.data(), "hello");

    const auto query = co_await monitor.receive();
    CO_ASSERT(query);
    EXPECT_TRUE(monitor.descriptors().empty()) << "the next command carries none";
    co_await monitor.reply((*query)["id"]);
    const Answer status = co_await plain.result();
    EXPECT_TRUE(status);
  });
}

TEST(QmpClient, OneDescriptorAtATimeForQemuKeepsOnlyTheLast) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    UniqueFd second(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    CO_ASSERT(first && second);
    struct stat second_is {};
    ::fstat(second.get(), &second_is);
    auto one = launch(executor, client, "getfd", with_fd(first.get()));
    auto two = launch(executor, client, "getfd", with_fd(second.get()));
    co_await settle();
    // The client sends from its own copies: the caller's may have gone, and their numbers been
    // reused.
    second.reset();
    const UniqueFd impostor(::open("/dev/full", O_RDONLY | O_CLOEXEC));

    auto request = co_await monitor.receive();
    CO_ASSERT(request);
    co_await settle();
    EXPECT_TRUE(monitor.nothing_to_read()) << "the second was sent before the first was answered";
    EXPECT_EQ(monitor.descriptors().size(), 1U);
    co_await monitor.reply((*request)["id"]);
    request = co_await monitor.receive();
    CO_ASSERT(request);
    CO_ASSERT(monitor.descriptors().size() == 2);
    struct stat received_is {};
    ::fstat(monitor.descriptors().back().get(), &received_is);
    EXPECT_EQ(received_is.st_rdev, second_is.st_rdev);
    co_await monitor.reply((*request)["id"]);
    const Answer first_done = co_await one.result();
    const Answer second_done = co_await two.result();
    EXPECT_TRUE(first_done);
    EXPECT_TRUE(second_done);
  });
}

TEST(QmpClient, ACommandGoesOnceTheDescriptorThatWaitedBeforeItIsGivenUp) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    const UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    auto unanswered = launch(executor, client, "getfd", with_fd(fd.get()));
    ExecuteOptions impatient = with_fd(fd.get());
    impatient.timeout = milliseconds(10);
    auto waiting = launch(executor, client, "getfd", impatient);
    auto after = launch(executor, client, "after");
    const Answer given_up = co_await waiting.result();
    EXPECT_EQ(code(given_up), Errc::timed_out);
    const auto getfd = co_await monitor.receive();
    CO_ASSERT(getfd);
    const auto request = co_await monitor.receive();
    CO_ASSERT(request);
    EXPECT_EQ((*request)["execute"], "after");
    EXPECT_EQ(monitor.descriptors().size(), 1U);
    co_await monitor.reply((*request)["id"]);
    const Answer answer = co_await after.result();
    EXPECT_TRUE(answer);
    co_await monitor.reply((*getfd)["id"]);
    const Answer first = co_await unanswered.result();
    EXPECT_TRUE(first);
  });
}

// ---------------------------------------------------------------------------------------- its end

TEST(QmpClient, DeathInMidReplyEndsAllCommandsAndTellsOnce) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    int told = 0;
    client->on_close([&](const Error& error) {
      ++told;
      EXPECT_EQ(error.code, Errc::closed);
      EXPECT_NE(error.message.find("middle of a message"), std::string::npos) << error.message;
    });
    std::vector<test::Started<Answer>> running;
    for (int i = 0; i < 3; ++i) running.push_back(launch(executor, client, "c"));
    json id;
    for (int i = 0; i < 3; ++i) {
      const auto request = co_await monitor.receive();
      CO_ASSERT(request);
      id = (*request)["id"];
    }
    co_await monitor.send_bytes("{\"return\": {\"running\": tr");
    monitor.close();
    for (const auto& each : running) {
      const Answer answer = co_await each.result();
      EXPECT_EQ(code(answer), Errc::closed);
    }
    EXPECT_EQ(told, 1);
    EXPECT_FALSE(client->is_open());
    const Answer after = co_await client->execute("query-status");
    EXPECT_EQ(code(after), Errc::closed);

    int told_late = 0;
    client->on_close([&](const Error& error) {
      ++told_late;
      EXPECT_EQ(error.code, Errc::closed);
    });
    EXPECT_EQ(told_late, 1) << "a handler set after the end is called at once";
    client->close();
    EXPECT_EQ(told, 1);
    EXPECT_EQ(told_late, 1);
  });
}

TEST(QmpClient, GarbageEndsTheConnection) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    const std::string garbage[] = {
        "no JSON\r\n",
        "\r\n",
        "[]\r\n",
        "{\"return\": {}}\r\n",
        "{\"return\": {}, \"id\": 424242}\r\n",
        "{\"return\": {}, \"id\": {}}\r\n",
        "{\"event\": \"STOP\"}\r\n",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n",
        std::string(test::greeting),
        std::string(4096, '\0') + "\n",
    };
    for (const std::string& bytes : garbage) {
      ScriptedMonitor monitor(executor);
      const auto client = co_await connected(monitor);
      CO_ASSERT(client);
      Errc why = Errc::conflict;
      int told = 0;
      client->on_close([&](const Error& error) {
        ++told;
        why = error.code;
      });
      auto waiting = launch(executor, client, "waiting");
      co_await monitor.receive();
      co_await monitor.send_bytes(bytes);
      const Answer answer = co_await waiting.result();
      EXPECT_EQ(code(answer), Errc::closed) << bytes;
      EXPECT_EQ(why, Errc::protocol) << bytes;
      EXPECT_EQ(told, 1);
      const auto gone = co_await monitor.receive();
      EXPECT_FALSE(gone) << "the client has closed its end";
    }
  });
}

TEST(QmpClient, WhatQemuSaidBeforeItWentIsReadEvenWhenWritingFails) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    std::vector<std::string> log;
    test::Signal closed(executor);
    client->on_event([&](const Event& event) { log.push_back(event.name); });
    client->on_close([&](const Error& error) {
      log.emplace_back(tandem::to_string(error.code));
      closed.set();
    });
    // The client finds out by writing: it has not read yet when it does.
    auto said = monitor.event("SHUTDOWN");
    co_await std::move(said);
    monitor.close();
    auto writing = client->execute("query-status");
    const Answer answer = co_await std::move(writing);
    EXPECT_EQ(code(answer), Errc::closed);
    co_await closed.wait();
    EXPECT_EQ(joined(log), "SHUTDOWN, closed");
  });
}

TEST(QmpClient, APeerThatStopsReadingEndsTheConnection) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    monitor.socket().shutdown(asio::socket_base::shutdown_receive);
    const Answer answer = co_await client->execute("query-status");
    EXPECT_EQ(code(answer), Errc::closed);
    EXPECT_FALSE(client->is_open());
  });
}

TEST(QmpClient, CloseEndsCommandsAndCallsNobody) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    const auto client = co_await connected(monitor);
    CO_ASSERT(client);
    int told = 0;
    client->on_close([&](const Error&) { ++told; });
    auto waiting = launch(executor, client, "waiting");
    co_await monitor.receive();
    client->close();
    client->close();
    EXPECT_FALSE(client->is_open());
    const Answer answer = co_await waiting.result();
    EXPECT_EQ(code(answer), Errc::closed);
    client->on_close([&](const Error&) { ++told; });
    const auto gone = co_await monitor.receive();
    EXPECT_FALSE(gone);
    EXPECT_EQ(told, 0);
  });
}

TEST(QmpClient, DroppingTheLastClientClosesTheSocketAndFreesTheHandlers) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    auto client = co_await connected(monitor);
    CO_ASSERT(client);
    auto owned = std::make_shared<int>(1);
    const std::weak_ptr<int> handlers_live = owned;
    client->on_event([owned](const Event&) {});
    client->on_close([owned](const Error&) { ADD_FAILURE() << "nobody asked"; });
    owned.reset();
    const std::weak_ptr<Client> client_lives = client;
    auto waiting = launch(executor, client, "waiting");
    co_await monitor.receive();
    client.reset();
    EXPECT_TRUE(client_lives.expired()) << "a waiting command must not keep the client";
    EXPECT_TRUE(handlers_live.expired());
    const Answer answer = co_await waiting.result();
    EXPECT_EQ(code(answer), Errc::closed);
    const auto gone = co_await monitor.receive();
    EXPECT_FALSE(gone);
  });
}

TEST(QmpClient, HandlersThatOwnTheClientGoWithTheConnection) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    const bool ways[] = {false, true};
    for (const bool by_us : ways) {
      ScriptedMonitor monitor(executor);
      auto client = co_await connected(monitor);
      CO_ASSERT(client);
      test::Signal closed(executor);
      client->on_event([client](const Event&) {});
      client->on_close([client, closed](const Error&) { closed.set(); });
      const std::weak_ptr<Client> lives = client;
      Client* const raw = client.get();
      client.reset();
      EXPECT_FALSE(lives.expired());
      if (by_us) {
        raw->close();
      } else {
        monitor.close();
        co_await closed.wait();
      }
      EXPECT_TRUE(lives.expired());
    }
  });
}

TEST(QmpClient, AHandlerMayCloseOrDropTheClientWhileItRuns) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    const bool ways[] = {false, true};
    for (const bool drop : ways) {
      ScriptedMonitor monitor(executor);
      auto client = co_await connected(monitor);
      CO_ASSERT(client);
      std::vector<std::string> seen;
      test::Signal done(executor);
      client->on_close([](const Error&) { ADD_FAILURE() << "it was closed from this side"; });
      const auto owned = std::make_shared<std::string>("alive");
      client->on_event([&, drop, owned](const Event& event) {
        if (drop) {
          client.reset();
        } else {
          client->close();
        }
        // The handler and the event outlive the client here.
        seen.push_back(event.name + *owned);
        done.set();
      });
      // Both in one read: the second must not arrive any more.
      const std::string event = R"({"timestamp": {"seconds": 1, "microseconds": 1}, "event": "A"})"
                                "\r\n";
      co_await monitor.send_bytes(event + event);
      co_await done.wait();
      const auto gone = co_await monitor.receive();
      EXPECT_FALSE(gone);
      EXPECT_EQ(joined(seen), "Aalive");
    }
  });
}

TEST(QmpClient, TheCloseHandlerMayDropTheClient) {
  run([]() -> Task<> {
    const auto executor = EXECUTOR();
    ScriptedMonitor monitor(executor);
    auto client = co_await connected(monitor);
    CO_ASSERT(client);
    test::Signal done(executor);
    client->on_close([&](const Error& error) {
      client.reset();
      EXPECT_EQ(error.code, Errc::closed);
      done.set();
    });
    monitor.close();
    co_await done.wait();
    EXPECT_FALSE(client);
  });
}

TEST(QmpClient, AnExceptionOfAHandlerIsNotSwallowed) {
  asio::io_context context;
  std::shared_ptr<Client> client;
  ScriptedMonitor monitor(context.get_executor());
  asio::co_spawn(
      context,
      [](ScriptedMonitor& peer, std::shared_ptr<Client>& result) -> Task<> {
        result = co_await connected(peer);
        CO_ASSERT(result);
        result->on_event([](const Event&) { throw std::runtime_error("a programmer's error"); });
        co_await peer.event("A");
      }(monitor, client),
      [](std::exception_ptr thrown) { EXPECT_FALSE(thrown); });
  EXPECT_THROW(context.run_for(seconds(10)), std::runtime_error);
  ASSERT_TRUE(client);
  EXPECT_FALSE(client->is_open());
}

TEST(QmpClient, MayBeDestroyedWithItsContextWhileCommandsWait) {
  const auto context = std::make_unique<asio::io_context>();
  {
    ScriptedMonitor monitor(context->get_executor());
    bool waiting = false;
    asio::co_spawn(
        *context,
        [](ScriptedMonitor& peer, bool& reached) -> Task<> {
          const auto executor = co_await asio::this_coro::executor;
          const auto client = co_await connected(peer);
          CO_ASSERT(client);
          std::vector<test::Started<Answer>> running;
          for (int i = 0; i < 10; ++i) running.push_back(launch(executor, client, "c"));
          co_await peer.receive();
          reached = true;
          const Answer never = co_await running[0].result();
          ADD_FAILURE() << "answered by nobody";
        }(monitor, waiting),
        [](std::exception_ptr) {});
    while (!waiting && context->run_one_for(seconds(10)) > 0) {
    }
    EXPECT_TRUE(waiting);
  }
  // The context's end destroys the reader, the commands and the client; sanitizers watch over it.
}

}  // namespace
}  // namespace tandem::qmp
