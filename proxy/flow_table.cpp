#include "proxy/flow_table.hpp"

#include <algorithm>
#include <utility>

namespace tandem::proxy {

namespace {
constexpr std::size_t slots_min = 1024;
constexpr std::size_t free_queues_max = 4096;
}  // namespace

FlowTable::FlowTable(std::size_t flows_max)
    : flows_max_(std::max<std::size_t>(flows_max, 1)), slots_(slots_min) {}

FlowTable::~FlowTable() {
  clear();
}

std::uint32_t FlowTable::hash_of(const FlowKey& key) noexcept {
  const std::uint64_t hash = hash_value(key);
  return static_cast<std::uint32_t>(hash ^ hash >> 32);
}

/// Where the key is, or the empty slot where it would be.
std::size_t FlowTable::slot_of(const FlowKey& key, std::uint32_t hash) noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = hash & mask;
  while (slots_[i].flow != 0 && !(slots_[i].hash == hash && at(slots_[i].flow - 1).key == key)) {
    i = (i + 1) & mask;
  }
  return i;
}

Flow* FlowTable::get(const FlowKey& key) {
  if (recent_ && recent_->key == key) return recent_;
  const std::uint32_t hash = hash_of(key);
  const Slot& slot = slots_[slot_of(key, hash)];
  Flow* flow = slot.flow != 0 ? &at(slot.flow - 1) : add(key, hash);
  if (flow) recent_ = flow;
  return flow;
}

Flow* FlowTable::add(const FlowKey& key, std::uint32_t hash) {
  if (size_ >= flows_max_) {
    if (!closed_.oldest) return nullptr;
    erase(*closed_.oldest);
    ++evicted_;
  }
  if ((size_ + 1) * 4 > slots_.size() * 3) grow();
  const std::uint32_t index = new_index();
  Slot& slot = slots_[slot_of(key, hash)];
  slot = {hash, index + 1};
  ++size_;
  Flow& flow = at(index);
  flow = Flow{};
  flow.key = key;
  return &flow;
}

std::uint32_t FlowTable::new_index() {
  if (!free_.empty()) {
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  if (used_ == chunks_.size() * chunk_flows) {
    chunks_.push_back(std::make_unique<Flow[]>(chunk_flows));
  }
  return used_++;
}

void FlowTable::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.flow == 0) continue;
    std::size_t i = slot.hash & mask;
    while (slots_[i].flow != 0) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

void FlowTable::erase(Flow& flow) {
  move_to(flow, Flow::List::none);
  if (recent_ == &flow) recent_ = nullptr;
  const std::size_t mask = slots_.size() - 1;
  std::size_t hole = slot_of(flow.key, hash_of(flow.key));
  free_.push_back(slots_[hole].flow - 1);
  // Whatever stands behind the hole and could stand in it moves there, so that no search ends
  // early.
  for (std::size_t i = (hole + 1) & mask; slots_[i].flow != 0; i = (i + 1) & mask) {
    const std::size_t home = slots_[i].hash & mask;
    if (((i - home) & mask) < ((i - hole) & mask)) continue;
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = Slot{};
  --size_;
}

FlowQueues& FlowTable::queues(Flow& flow) {
  if (flow.queues) return *flow.queues;
  if (free_queues_.empty()) {
    flow.queues = new FlowQueues;
  } else {
    flow.queues = free_queues_.back().release();
    free_queues_.pop_back();
  }
  return *flow.queues;
}

void FlowTable::settle(Flow& flow) {
  if (flow.queues && flow.queues->empty() && !flow.held) {
    std::unique_ptr<FlowQueues> queues(std::exchange(flow.queues, nullptr));
    *queues = FlowQueues{};
    if (free_queues_.size() < free_queues_max) free_queues_.push_back(std::move(queues));
  }
  const auto where = !flow.primary_seen ? Flow::List::foreign
                     : flow.closed()    ? Flow::List::closed
                                        : Flow::List::none;
  if (where != Flow::List::none || flow.list != Flow::List::none) move_to(flow, where);
}

void FlowTable::move_to(Flow& flow, Flow::List which) noexcept {
  if (flow.list == which && which != Flow::List::none && list(which).newest == &flow) return;
  if (flow.list != Flow::List::none) {
    List& from = list(flow.list);
    (flow.older ? flow.older->newer : from.oldest) = flow.newer;
    (flow.newer ? flow.newer->older : from.newest) = flow.older;
    flow.older = flow.newer = nullptr;
  }
  flow.list = which;
  if (which == Flow::List::none) return;
  List& to = list(which);
  flow.older = to.newest;
  (to.newest ? to.newest->newer : to.oldest) = &flow;
  to.newest = &flow;
}

void FlowTable::erase_foreign() {
  while (foreign_.oldest) erase(*foreign_.oldest);
}

void FlowTable::erase_silent(std::uint32_t epoch) {
  // Erasing moves slots, so the flows are found first.
  std::vector<Flow*> silent;
  for (const Slot& slot : slots_) {
    if (slot.flow != 0 && at(slot.flow - 1).epoch != epoch) silent.push_back(&at(slot.flow - 1));
  }
  for (Flow* flow : silent) erase(*flow);
  evicted_ += silent.size();
}

void FlowTable::clear() {
  for (std::uint32_t i = 0; i < used_; ++i) delete std::exchange(at(i).queues, nullptr);
  slots_.assign(slots_min, Slot{});
  chunks_.clear();
  free_.clear();
  free_queues_.clear();
  size_ = 0;
  used_ = 0;
  recent_ = nullptr;
  closed_ = foreign_ = List{};
}

}  // namespace tandem::proxy
