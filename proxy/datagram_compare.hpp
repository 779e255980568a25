// Compares everything but TCP: frame by frame, per flow, in order and whole.
#pragma once

#include <string>

#include "proxy/compare_state.hpp"

namespace tandem::proxy {

class DatagramCompare {
 public:
  explicit DatagramCompare(CompareState& state) : state_(state) {}

  void primary(Flow& flow, WaitingFrame& frame);
  void secondary(Flow& flow, WaitingFrame& frame);

 private:
  using Side = Comparer::Side;
  /// Whether the two are equal; if not, nothing leaves the flow any more.
  bool match(Flow& flow, WaitingFrame& ours, const WaitingFrame& theirs);
  void wait(Flow& flow, WaitingFrame& frame);
  void block(Flow& flow);

  CompareState& state_;
};

}  // namespace tandem::proxy
