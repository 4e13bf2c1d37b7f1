#include "coordinator/service/log_stream.h"

#include <utility>

#include "common/rpc/field_violations.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kChunkBytes = 64 << 10;

}  // namespace

LogStream::LogStream(const ServiceContext& context, v1::TailLogsRequest request)
    : LoopStream(context.loop, context.streams), context_(context), request_(std::move(request)) {
  PostBegin();
}

void LogStream::OnBegin() {
  const absl::StatusOr<const Job*> job = context_.FindJob("name", request_.name());
  if (!job.ok()) return End(job.status());
  if (request_.tail_lines() < 0) {
    return End(InvalidField("tail_lines", "is negative; allowed: 0 for all, or a number of lines"));
  }
  if (request_.position() < 0) {
    return End(InvalidField("position", "is negative; allowed: 0, or a line's next_position"));
  }
  job_ = (*job)->id;
  job_name_ = (*job)->name;
  context_.board.AddWatcher(*job_, this);
  if (request_.position() > 0) {
    position_ = request_.position();
    return Advance();
  }
  reading_ = true;
  context_.archive.FindLogTail(job_name_, request_.tail_lines(), rank(),
                               WhileAlive([this](absl::StatusOr<int64_t> position) {
                                 reading_ = false;
                                 if (!position.ok()) return End(position.status());
                                 position_ = *position;
                                 Advance();
                               }));
}

void LogStream::Advance() {
  if (ended() || writing() || reading_ || !position_.has_value()) return;
  if (!lines_.empty()) {
    v1::LogLine line = std::move(lines_.front());
    lines_.pop_front();
    return Write(std::move(line));
  }
  if (!at_end_) return Read();
  const Job* const job = context_.driver.state().FindJob(*job_);
  if (!request_.follow() || job == nullptr || IsFinished(job->state)) End(absl::OkStatus());
}

void LogStream::Read() {
  reading_ = true;
  at_end_ = true;  // until more is appended while the archive reads
  context_.archive.ReadLogs(job_name_, *position_, rank(), kChunkBytes,
                            WhileAlive([this](absl::StatusOr<LogStore::Chunk> chunk) {
                              reading_ = false;
                              OnChunk(std::move(chunk));
                            }));
}

void LogStream::OnChunk(absl::StatusOr<LogStore::Chunk> chunk) {
  if (ended()) return;
  if (!chunk.ok()) return End(chunk.status());
  position_ = chunk->next;
  if (!chunk->at_end) at_end_ = false;
  for (v1::LogLine& line : chunk->lines) lines_.push_back(std::move(line));
  Advance();
}

void LogStream::OnClose() {
  if (job_.has_value()) context_.board.RemoveWatcher(*job_, this);
}

}  // namespace weft::coordinator
