// How busy other people's processes keep this machine while something is measured.
#pragma once

namespace tandem::bench {

/// Compares the machine's processor time with that of all processes in this process namespace
/// (inside a sandbox: the experiment's own).
class CpuMeter {
 public:
  CpuMeter();
  /// Processor seconds that others have used since the construction; 0 where /proc does not tell.
  [[nodiscard]] double others_seconds() const;

 private:
  struct Reading {
    double machine = 0, own = 0;
  };
  static Reading read();

  Reading begin_;
};

}  // namespace tandem::bench
