// A checkpoint that was cut or changed on its way never becomes one that is verified, whatever byte
// it concerns: the secondary goes on from the checkpoint before.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstring>

#include "engine/checkpoint/digest.hpp"
#include "engine/colo/stream_writer.hpp"
#include "engine/session/checkpoint_frame.hpp"
#include "engine/session/secondary_machine.hpp"
#include "engine/transport/memory.hpp"

namespace tandem::session {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kCheckpointMax = 64u << 10;

/// A checkpoint frame with this payload and the right digest.
Bytes framed(Checkpoint number, const Bytes& payload) {
  const auto header = wire::encode_frame({wire::FrameType::checkpoint, number, payload.size()});
  checkpoint::Digester digester;
  digester.update(header);
  digester.update(payload);
  const auto digest = digester.finish();
  Bytes frame(header.begin(), header.end());
  frame.insert(frame.end(), payload.begin(), payload.end());
  frame.insert(frame.end(), digest.begin(), digest.end());
  return frame;
}

/// Checkpoint `number` as its frame on the bulk lane: header, payload, digest.
Bytes frame_of(Checkpoint number, bool with_page) {
  Bytes payload;
  colo::StreamWriter writer(payload);
  writer.message(colo::Message::vmstate_send);
  writer.begin_section(2);
  writer.zero_page("pc.ram", 8 * colo::page_size, std::byte{0});
  if (with_page) {
    Bytes page(colo::page_size);
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i * 7 + i / 256);
    writer.page("pc.ram", 9 * colo::page_size, page);
  }
  writer.end_section();
  writer.end_sections();
  const Bytes device_state(24, std::byte{0x42});
  writer.device_state(device_state);

  return framed(number, payload);
}

/// What a secondary that waits for its first checkpoint makes of the bytes on its bulk lane.
class Receiver {
 public:
  Receiver() {
    auto buffer = checkpoint::Buffer::create(kCheckpointMax);
    if (!buffer) throw ErrorException(buffer.error());
    buffer_ = std::move(*buffer);
  }

  struct Outcome {
    bool acknowledged = false;       ///< the primary was told that it is committed
    Checkpoint promoted_from = ~0u;  ///< after the primary was lost
    bool fed = false;                ///< a byte of it would have reached the secondary VM
  };

  Outcome receive(std::span<const std::byte> bytes) {
    SecondaryMachine machine({.generation = 1});
    machine.on(SvmReady{});
    machine.on(SvmReply{});
    auto lanes = transport::make_memory_lanes(io_.get_executor());
    Outcome outcome;
    asio::co_spawn(io_, send(*lanes.first, bytes), rethrow);
    asio::co_spawn(io_, receive(*lanes.second, machine, outcome), rethrow);
    io_.restart();
    io_.run();
    note(machine.on(Granted{2}), outcome);
    if (outcome.fed) {  // the VM loads it, and stops again
      note(machine.on(SvmReceived{}), outcome);
      note(machine.on(SvmLoaded{}), outcome);
      note(machine.on(SvmReply{}), outcome);
    }
    return outcome;
  }

 private:
  static void rethrow(const std::exception_ptr& exception) {
    if (exception) std::rethrow_exception(exception);
  }

  static Task<void> send(transport::Lane& lane, std::span<const std::byte> bytes) {
    (void)co_await lane.send(bytes);
    lane.close();
  }

  /// As the secondary's session reads its bulk lane.
  Task<void> receive(transport::Lane& lane, SecondaryMachine& machine, Outcome& outcome) {
    std::array<std::byte, wire::frame_header_size> head;
    auto received = co_await lane.receive(head);
    std::optional<Error> error;
    if (!received) {
      error = received.error();
    } else {
      const auto header = wire::decode_frame(head, wire::LaneKind::bulk, kCheckpointMax);
      if (!header) {
        error = header.error();
      } else if (header->type != wire::FrameType::checkpoint) {
        error = Error{Errc::protocol, "a piece of the initial stream out of place"};
      } else {
        buffer_->clear();
        const std::function<void()> heard = [] {};
        const auto pages = co_await receive_checkpoint(lane, *header, *buffer_, heard);
        if (pages) {
          note(machine.on(CheckpointVerified{header->number}), outcome);
        } else {
          error = pages.error();
        }
      }
    }
    note(machine.on(PeerLost{error.value_or(Error{Errc::closed, "the end"})}), outcome);
  }

  static void note(const std::vector<SecondaryAction>& actions, Outcome& outcome) {
    for (const auto& action : actions) {
      if (const auto* told = std::get_if<TellPeer>(&action)) {
        outcome.acknowledged |= told->type == wire::FrameType::committed;
      } else if (const auto* promote = std::get_if<Promote>(&action)) {
        outcome.promoted_from = promote->checkpoint;
      } else if (std::holds_alternative<Feed>(action)) {
        outcome.fed = true;
      }
    }
  }

  asio::io_context io_;
  std::unique_ptr<checkpoint::Buffer> buffer_;
};

void expect_dropped(Receiver& receiver, const Bytes& bytes, const std::string& what) {
  const auto outcome = receiver.receive(bytes);
  ASSERT_FALSE(outcome.acknowledged) << what;
  ASSERT_FALSE(outcome.fed) << what;
  ASSERT_EQ(outcome.promoted_from, 0u) << what;
}

TEST(CheckpointFrame, WholeAndUnchangedItIsCommittedAndTheVmGoesOnFromIt) {
  Receiver receiver;
  for (const bool with_page : {false, true}) {
    const auto outcome = receiver.receive(frame_of(1, with_page));
    EXPECT_TRUE(outcome.acknowledged);
    EXPECT_TRUE(outcome.fed);
    EXPECT_EQ(outcome.promoted_from, 1u);
  }
}

TEST(CheckpointFrame, CutAtAnyByteItIsDroppedAndTheVmGoesOnFromTheOneBefore) {
  Receiver receiver;
  const auto whole = frame_of(1, true);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    ASSERT_NO_FATAL_FAILURE(expect_dropped(receiver, cut, "cut at " + std::to_string(length)));
  }
}

TEST(CheckpointFrame, WithAnySingleByteChangedToAnyValueItIsDropped) {
  Receiver receiver;
  const auto whole = frame_of(1, false);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (unsigned change = 1; change < 256; ++change) {
      auto bytes = whole;
      bytes[at] ^= static_cast<std::byte>(change);
      ASSERT_NO_FATAL_FAILURE(expect_dropped(
          receiver, bytes, "byte " + std::to_string(at) + " ^ " + std::to_string(change)));
    }
  }
}

TEST(CheckpointFrame, WithAnySingleBitFlippedInAPageItIsDropped) {
  Receiver receiver;
  const auto whole = frame_of(1, true);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    auto bytes = whole;
    bytes[at] ^= static_cast<std::byte>(1u << (at % 8));
    ASSERT_NO_FATAL_FAILURE(expect_dropped(receiver, bytes, "byte " + std::to_string(at)));
  }
}

TEST(CheckpointFrame, WithARightDigestButNotOneWholeCheckpointItIsDropped) {
  Receiver receiver;
  const auto whole = frame_of(1, true);
  const auto payload = std::span(whole).subspan(
      wire::frame_header_size, whole.size() - wire::frame_header_size - wire::digest_size);
  for (std::size_t length = 0; length < payload.size(); ++length) {
    const Bytes part(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(length));
    ASSERT_NO_FATAL_FAILURE(
        expect_dropped(receiver, framed(1, part), "a checkpoint of " + std::to_string(length)));
  }
  Bytes longer(payload.begin(), payload.end());
  longer.push_back(std::byte{0});
  ASSERT_NO_FATAL_FAILURE(expect_dropped(receiver, framed(1, longer), "a byte too many"));
  Bytes twice(payload.begin(), payload.end());
  twice.insert(twice.end(), payload.begin(), payload.end());
  ASSERT_NO_FATAL_FAILURE(expect_dropped(receiver, framed(1, twice), "two checkpoints in one"));
}

TEST(CheckpointFrame, OutOfOrderItIsDropped) {
  Receiver receiver;
  for (const Checkpoint number : {Checkpoint{0}, Checkpoint{2}, Checkpoint{3}, ~Checkpoint{0}}) {
    ASSERT_NO_FATAL_FAILURE(
        expect_dropped(receiver, frame_of(number, false), "number " + std::to_string(number)));
  }
}

}  // namespace
}  // namespace tandem::session
