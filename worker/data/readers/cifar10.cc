#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/mapped_file.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/content_hash.h"
#include "worker/data/readers/pixels.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

constexpr int64_t kPixels = 32 * 32;
constexpr int64_t kRecordBytes = 1 + 3 * kPixels;
constexpr int32_t kClasses = 10;
constexpr int64_t kTenth = 10;

int32_t Grey(GreyConversion conversion, unsigned char red, unsigned char green,
             unsigned char blue) {
  if (conversion == GreyConversion::kPillow) {
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
  }
  const float sum = 0.2989F * (static_cast<float>(red) / 255.0F) +
                    0.5870F * (static_cast<float>(green) / 255.0F) +
                    0.1140F * (static_cast<float>(blue) / 255.0F);
  return static_cast<int32_t>(sum * 255.5F);
}

// Some record files as one row of records.
class Records {
 public:
  absl::Status Add(const std::string& path, Sha256& hash) {
    WEFT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
    const absl::string_view bytes = file.bytes();
    if (bytes.empty() || static_cast<int64_t>(bytes.size()) % kRecordBytes != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " has ", bytes.size(), " bytes; expected records of ", kRecordBytes,
          " bytes (a label and 3 x 1024 pixels), as in the binary version of CIFAR-10"));
    }
    for (int64_t at = 0; at < static_cast<int64_t>(bytes.size()); at += kRecordBytes) {
      const auto label = static_cast<unsigned char>(bytes[static_cast<size_t>(at)]);
      if (label >= kClasses) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": the label of record ", at / kRecordBytes, " is ", label, "; expected 0 to 9"));
      }
      records_.push_back(bytes.data() + at);
    }
    HashContents(bytes, hash);
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(records_.size()); }
  [[nodiscard]] const unsigned char* operator[](int64_t index) const {
    return reinterpret_cast<const unsigned char*>(records_[static_cast<size_t>(index)]);
  }

 private:
  std::vector<MappedFile> files_;
  std::vector<const char*> records_;
};

class Cifar10Reader : public BasicSampleSource {
 public:
  Cifar10Reader(SampleSourceFacts facts, Records records, GreyConversion grey)
      : BasicSampleSource(std::move(facts)), records_(std::move(records)), grey_(grey) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    const int64_t first =
        split == Split::kTrain ? 0 : records_.size() - sample_count(Split::kValidation);
    const unsigned char* record = records_[first + sample];
    into.targets[0] = record[0];
    const unsigned char* red = record + 1;
    for (int64_t i = 0; i < kPixels; ++i) {
      into.tokens[static_cast<size_t>(i)] =
          Grey(grey_, red[i], red[kPixels + i], red[2 * kPixels + i]);
    }
    MaskZeroPixels(into);
    return absl::OkStatus();
  }

 private:
  Records records_;  // those for training first, those held out last
  GreyConversion grey_;
};

}  // namespace

SampleSourceOr OpenCifar10(const Cifar10Files& files, int64_t sequence, HeldOut held_out) {
  if (sequence != kPixels) {
    return absl::InvalidArgumentError(absl::StrCat("a CIFAR-10 image has ", kPixels,
                                                   " pixels, so the sequence must be as long; it "
                                                   "is ",
                                                   sequence));
  }
  Sha256 hash;
  hash.Update("cifar10");
  Records records;
  for (int batch = 1; batch <= 5; ++batch) {
    WEFT_RETURN_IF_ERROR(
        records.Add(JoinPath(files.folder, absl::StrCat("data_batch_", batch, ".bin")), hash));
  }
  const int64_t all = records.size();
  const int64_t train = all - all / kTenth;
  int64_t validation = all - train;
  if (held_out == HeldOut::kTest) {
    WEFT_RETURN_IF_ERROR(records.Add(JoinPath(files.folder, "test_batch.bin"), hash));
    validation = records.size() - all;
  }
  hash.UpdateInteger(static_cast<uint64_t>(files.grey));
  hash.UpdateInteger(files.mask_zero_pixels ? 1 : 0);
  SampleSourceFacts facts = {
      .shape = ImageShape(kPixels, kClasses, files.mask_zero_pixels),
      .train_samples = train,
      .validation_samples = validation,
      .fingerprint = hash.Finish(),
      .description = absl::StrCat("CIFAR-10 in grey from ", files.folder,
                                  files.mask_zero_pixels ? ", black pixels masked," : "")};
  return std::make_unique<Cifar10Reader>(std::move(facts), std::move(records), files.grey);
}

}  // namespace weft::worker
