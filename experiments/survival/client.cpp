#include "experiments/survival/client.hpp"

#include <arpa/inet.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tandem::survival {
namespace {

using Clock = std::chrono::steady_clock;

Result<in_addr> parse(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1)
    return Error{Errc::invalid_input, "\"" + text + "\" is not an IPv4 address"};
  return address;
}

}  // namespace

Result<std::unique_ptr<Client>> Client::start(const world::NetNamespace& net,
                                              const std::string& own_address,
                                              const std::string& guest_address) {
  const auto own = parse(own_address);
  if (!own) return own.error();
  const auto guest = parse(guest_address);
  if (!guest) return guest.error();
  std::unique_ptr<Client> client(new Client);
  client->own_ = *own;
  client->guest_ = *guest;
  client->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!client->wake_) return system_error("cannot make an event", errno);
  std::promise<Result<void>> entered;
  auto inside = entered.get_future();
  client->thread_ = std::thread([raw = client.get(), &net, &entered] {
    auto result = net.enter();
    const bool ready = result.has_value();
    entered.set_value(std::move(result));
    if (ready) raw->run();
  });
  if (auto result = inside.get(); !result) return result.error();
  return client;
}

Client::~Client() {
  stopping_ = true;
  post([] {});
  if (thread_.joinable()) thread_.join();
}

void Client::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake();
}

void Client::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

std::size_t Client::open(std::unique_ptr<Exchange> exchange, Opening opening) {
  // std::function wants to be able to copy what it holds.
  auto shared = std::make_shared<std::unique_ptr<Exchange>>(std::move(exchange));
  std::size_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = published_.size();
    published_.emplace_back();
    jobs_.emplace_back([this, shared, opening] {
      conversations_.push_back(
          std::make_unique<Conversation>(std::move(*shared), opening, own_, guest_));
    });
  }
  wake();
  return number;
}

std::vector<Progress> Client::progress() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

void Client::finish(std::size_t number, std::chrono::milliseconds limit) {
  post([this, number, limit] {
    if (number < conversations_.size()) conversations_[number]->finish(Clock::now() + limit);
  });
}

std::future<std::vector<Outcome>> Client::finish_all(std::chrono::milliseconds limit) {
  auto promise = std::make_shared<std::promise<std::vector<Outcome>>>();
  post([this, promise, limit] {
    for (auto& conversation : conversations_) conversation->finish(Clock::now() + limit);
    finished_ = promise;
  });
  return promise->get_future();
}

void Client::run() {
  while (!stopping_) turn();
}

void Client::turn() {
  const auto begun = Clock::now();
  std::vector<pollfd> waiting{{wake_.get(), POLLIN, 0}};
  Time due = begun + std::chrono::hours(1);
  for (const auto& conversation : conversations_) {
    const auto interest = conversation->interest();
    if (interest.fd >= 0) waiting.push_back(interest);
    if (const auto when = conversation->due()) due = std::min(due, *when);
  }
  const auto left = std::max(Clock::duration::zero(), Clock::duration(due - begun));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{seconds.count(), std::chrono::nanoseconds(left - seconds).count()};
  ::ppoll(waiting.data(), waiting.size(), &timeout, nullptr);
  std::uint64_t ignored = 0;
  [[maybe_unused]] const auto drained = ::read(wake_.get(), &ignored, sizeof ignored);

  std::vector<std::function<void()>> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs.swap(jobs_);
  }
  for (const auto& job : jobs) job();
  // Each looks at the clock anew: what one does may take the others' milliseconds.
  for (const auto& conversation : conversations_) conversation->tick(Clock::now());
  publish();
  const auto over = [](const auto& conversation) { return conversation->ended(); };
  if (finished_ && std::ranges::all_of(conversations_, over)) {
    std::vector<Outcome> outcomes;
    for (const auto& conversation : conversations_) outcomes.push_back(conversation->outcome());
    finished_->set_value(std::move(outcomes));
    finished_.reset();
  }
}

void Client::publish() {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < conversations_.size(); ++i)
    published_[i] = conversations_[i]->progress();
}

}  // namespace tandem::survival
