#include "tests/testing/faulty_file_system.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"

namespace weft::testing {

struct FaultyFileSystem::Node {
  bool directory = false;
  // Of a file.
  std::string bytes;
  std::string durable_bytes;
  bool synced = true;
  // Of a directory: what it shows, and the states since its last Sync, that one included.
  Entries entries;
  std::vector<Entries> history = {{}};
};

namespace {

absl::Status PowerIsOff() { return absl::UnavailableError("the power is off"); }

absl::Status Missing(absl::string_view path) {
  return absl::NotFoundError(absl::StrCat("cannot open ", path, ": No such file or directory"));
}

std::pair<std::string, std::string> SplitPath(absl::string_view path) {
  const std::string directory(DirectoryOf(path));
  const size_t slash = path.rfind('/');
  return {directory, std::string(slash == absl::string_view::npos ? path : path.substr(slash + 1))};
}

}  // namespace

FaultyFileSystem::FaultyFileSystem() : root_(std::make_shared<Node>()) { root_->directory = true; }
FaultyFileSystem::~FaultyFileSystem() = default;

absl::Status FaultyFileSystem::BeginOperation() {
  if (!power_) return PowerIsOff();
  const int64_t number = operations_++;
  if (power_cut_ == number) {
    power_ = false;
    return PowerIsOff();
  }
  const auto failure = failures_.find(number);
  return failure == failures_.end() ? absl::OkStatus() : failure->second;
}

std::shared_ptr<FaultyFileSystem::Node> FaultyFileSystem::Find(absl::string_view path) const {
  std::shared_ptr<Node> node = root_;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    const auto entry = node->entries.find(std::string(part));
    if (!node->directory || entry == node->entries.end()) return nullptr;
    node = entry->second;
  }
  return node;
}

int64_t FaultyFileSystem::BytesUsed(const Node& node) const {
  auto bytes = static_cast<int64_t>(node.bytes.size());
  for (const auto& [name, child] : node.entries) bytes += BytesUsed(*child);
  return bytes;
}

void FaultyFileSystem::SetEntry(Node& directory, const std::string& name,
                                std::shared_ptr<Node> node) {
  if (node == nullptr) {
    directory.entries.erase(name);
  } else {
    directory.entries[name] = std::move(node);
  }
  directory.history.push_back(directory.entries);
}

absl::Status FaultyFileSystem::Write(absl::string_view path,
                                     absl::Span<const absl::string_view> pieces) {
  absl::MutexLock lock(&mutex_);
  absl::Status fate = BeginOperation();
  if (absl::IsUnavailable(fate) && power_cut_ != operations_ - 1) return fate;
  const auto [directory_path, name] = SplitPath(path);
  const std::shared_ptr<Node> directory = Find(directory_path);
  if (directory == nullptr) return Missing(path);
  std::shared_ptr<Node> file = Find(path);
  if (file == nullptr) {
    file = std::make_shared<Node>();
    SetEntry(*directory, name, file);
  }
  if (file->directory) return absl::FailedPreconditionError(absl::StrCat(path, " is a directory"));
  file->bytes.clear();
  file->synced = false;
  std::string wanted = absl::StrJoin(pieces, "");
  const auto free = static_cast<size_t>(std::max<int64_t>(0, capacity_ - BytesUsed(*root_)));
  if (!fate.ok()) {
    file->bytes = wanted.substr(0, std::min(free, wanted.size() / 2));
    return fate;
  }
  if (wanted.size() > free) {
    file->bytes = wanted.substr(0, free);
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot write ", path, ": No space left on device"));
  }
  file->bytes = std::move(wanted);
  return absl::OkStatus();
}

absl::Status FaultyFileSystem::Sync(absl::string_view path) {
  absl::MutexLock lock(&mutex_);
  WEFT_RETURN_IF_ERROR(BeginOperation());
  if (sync_failure_.has_value())
    return Annotate(*sync_failure_, absl::StrCat("cannot sync ", path));
  const std::shared_ptr<Node> node = Find(path);
  if (node == nullptr) return Missing(path);
  node->durable_bytes = node->bytes;
  node->synced = true;
  node->history = {node->entries};
  return absl::OkStatus();
}

absl::Status FaultyFileSystem::Rename(absl::string_view from, absl::string_view to) {
  absl::MutexLock lock(&mutex_);
  WEFT_RETURN_IF_ERROR(BeginOperation());
  const auto [from_directory, from_name] = SplitPath(from);
  const auto [to_directory, to_name] = SplitPath(to);
  // Between directories a rename is two entries that a power cut could tear apart.
  WEFT_CHECK_MSG(from_directory == to_directory, "rename between directories is not modelled");
  const std::shared_ptr<Node> directory = Find(from_directory);
  const std::shared_ptr<Node> node = Find(from);
  if (node == nullptr) return Missing(from);
  const std::shared_ptr<Node> replaced = Find(to);
  if (replaced != nullptr &&
      (replaced->directory != node->directory || !replaced->entries.empty())) {
    return absl::AlreadyExistsError(absl::StrCat("cannot rename ", from, " to ", to));
  }
  directory->entries.erase(from_name);  // and the new name in the same state of the directory
  SetEntry(*directory, to_name, node);
  return absl::OkStatus();
}

absl::StatusOr<std::string> FaultyFileSystem::Read(absl::string_view path, int64_t offset,
                                                   int64_t max_bytes) {
  absl::MutexLock lock(&mutex_);
  if (!power_) return PowerIsOff();
  const std::shared_ptr<Node> file = Find(path);
  if (file == nullptr) return Missing(path);
  if (file->directory) return absl::FailedPreconditionError(absl::StrCat(path, " is a directory"));
  if (offset >= static_cast<int64_t>(file->bytes.size())) return std::string();
  return file->bytes.substr(static_cast<size_t>(offset), static_cast<size_t>(max_bytes));
}

absl::StatusOr<std::vector<DirectoryEntry>> FaultyFileSystem::List(absl::string_view directory) {
  absl::MutexLock lock(&mutex_);
  if (!power_) return PowerIsOff();
  const std::shared_ptr<Node> node = Find(directory);
  if (node == nullptr) return Missing(directory);
  if (!node->directory) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " is not a directory"));
  }
  std::vector<DirectoryEntry> entries;
  for (const auto& [name, child] : node->entries) {
    entries.push_back({name, child->directory, static_cast<int64_t>(child->bytes.size())});
  }
  return entries;
}

absl::Status FaultyFileSystem::CreateDirectories(absl::string_view directory) {
  absl::MutexLock lock(&mutex_);
  WEFT_RETURN_IF_ERROR(BeginOperation());
  std::shared_ptr<Node> node = root_;
  for (absl::string_view part : absl::StrSplit(directory, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    const std::string name(part);
    if (node->entries.count(name) == 0) {
      auto created = std::make_shared<Node>();
      created->directory = true;
      SetEntry(*node, name, std::move(created));
    }
    node = node->entries[name];
    if (!node->directory) {
      return absl::AlreadyExistsError(absl::StrCat(directory, ": ", name, " is a file"));
    }
  }
  return absl::OkStatus();
}

absl::Status FaultyFileSystem::RemoveTree(absl::string_view path) {
  absl::MutexLock lock(&mutex_);
  WEFT_RETURN_IF_ERROR(BeginOperation());
  const auto [directory_path, name] = SplitPath(path);
  const std::shared_ptr<Node> directory = Find(directory_path);
  const std::shared_ptr<Node> node = Find(path);
  if (directory == nullptr || node == nullptr) return absl::OkStatus();
  // The children go one by one, and a power cut may leave any part of them.
  while (!node->entries.empty()) SetEntry(*node, node->entries.begin()->first, nullptr);
  SetEntry(*directory, name, nullptr);
  return absl::OkStatus();
}

int64_t FaultyFileSystem::operations() const {
  absl::MutexLock lock(&mutex_);
  return operations_;
}

void FaultyFileSystem::LosePowerAt(int64_t operation) {
  absl::MutexLock lock(&mutex_);
  power_cut_ = operation;
}

void FaultyFileSystem::Survive(Node& node, std::mt19937_64& random) {
  if (!node.directory) {
    if (!node.synced) {
      const size_t torn = node.bytes.empty() ? 0 : random() % node.bytes.size();
      const std::string outcomes[] = {node.durable_bytes, node.bytes, node.bytes.substr(0, torn),
                                      std::string(node.bytes.size(), '\0')};
      node.durable_bytes = outcomes[random() % 4];
    }
    node.bytes = node.durable_bytes;
    node.synced = true;
    return;
  }
  node.entries = node.history[random() % node.history.size()];
  node.history = {node.entries};
  for (auto& [name, child] : node.entries) Survive(*child, random);
}

void FaultyFileSystem::RestorePower(uint64_t seed) {
  absl::MutexLock lock(&mutex_);
  std::mt19937_64 random(seed);
  Survive(*root_, random);
  power_ = true;
  power_cut_.reset();
  failures_.clear();
}

void FaultyFileSystem::FailAt(int64_t operation, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  failures_[operation] = std::move(error);
}

void FaultyFileSystem::FailEverySync(std::optional<absl::Status> error) {
  absl::MutexLock lock(&mutex_);
  sync_failure_ = std::move(error);
}

void FaultyFileSystem::SetCapacity(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  capacity_ = bytes;
}

void FaultyFileSystem::FlipBit(absl::string_view path, int64_t bit) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<Node> file = Find(path);
  WEFT_CHECK(file != nullptr && bit / 8 < static_cast<int64_t>(file->bytes.size()));
  char& byte = file->bytes[static_cast<size_t>(bit / 8)];
  byte = static_cast<char>(byte ^ (1 << (bit % 8)));
  file->durable_bytes = file->bytes;
}

}  // namespace weft::testing
