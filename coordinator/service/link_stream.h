// One connection of a worker's agent: turns its messages into events, acknowledges what is durable,
// and carries commands to it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/events.h"
#include "coordinator/service/loop_stream.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/worker_link.pb.h"

namespace weft::coordinator {

class WorkerLinks;

// Raised whenever worker_link.proto changes incompatibly.
inline constexpr int kProtocolVersion = 1;

class LinkStream final : public LoopBidi<v1::WorkerMessage, v1::CoordinatorMessage> {
 public:
  LinkStream(const ServiceContext& context, WorkerLinks& links);

  void OnReadDone(bool ok) override;

  // Puts a message behind those that wait. Over the limit it is dropped: everything on this link is
  // sent again when it is missed.
  void Send(v1::CoordinatorMessage message);
  void SendCommand(const Command& command);

  [[nodiscard]] bool joined() const { return joined_; }
  [[nodiscard]] const WorkerName& worker() const { return worker_; }
  [[nodiscard]] const Incarnation& incarnation() const { return incarnation_; }

 private:
  void OnBegin() override;
  void OnWritten() override { WriteNext(); }
  void OnEnd() override;

  void ReadNext();
  void WriteNext();
  // Each may end the stream.
  void OnMessage(v1::WorkerMessage message);
  void OnHello(const v1::Hello& hello);
  void OnJoined(const absl::StatusOr<JobId>& reply);
  void OnHeartbeat(const v1::Heartbeat& heartbeat);
  void OnExit(const v1::MemberExit& exit);
  void OnSteps(v1::StepBatch steps);
  void OnLogs(v1::LogBatch logs);
  void OnCheckpoint(const v1::CheckpointPublished& published);
  void Acknowledge(int64_t id, const absl::Status& status);
  void Remember(const google::protobuf::RepeatedPtrField<v1::MemberStatus>& running);
  [[nodiscard]] std::string ResourceOf(JobId job) const;

  const ServiceContext& context_;
  WorkerLinks& links_;
  v1::WorkerMessage incoming_;
  std::deque<v1::CoordinatorMessage> outgoing_;
  int64_t logs_in_flight_ = 0;
  bool read_waits_ = false;  // the next read, for logs to be stored

  bool said_hello_ = false;
  bool joined_ = false;
  WorkerName worker_;
  Incarnation incarnation_;
  std::string device_class_;
  int32_t slots_ = 1;
  std::map<JobId, std::string> heard_jobs_;  // resource names, of jobs that may be deleted here
};

}  // namespace weft::coordinator
