#include "kernels/attention/sbm/cpu/attention_head.h"

#include <algorithm>

namespace weft::kernels {

bool GraphHead::IsDense(QueryRows rows, double share) const {
  int64_t pairs = 0;
  for (int64_t i = rows.first; i < rows.last; ++i) pairs += KeysEnd(i);
  return static_cast<double>(edges_.Count(vector_, rows.first, rows.last)) >=
         share * static_cast<double>(pairs);
}

bool GraphHead::IsEmpty(QueryRows rows, int64_t begin, int64_t end) const {
  uint64_t any = 0;
  for (int64_t i = rows.first; i < rows.last; ++i) {
    const uint64_t* const words = edges_.Row(i);
    for (int64_t w = begin / 64; w < (end + 63) / 64; ++w) any |= words[w];
  }
  return any == 0;
}

void GraphHead::Copies(int64_t i, int64_t begin, int64_t end, float* copies) const {
  const uint8_t* const row = copies_ + i * copies_stride_;
  for (int64_t j = begin; j < end; ++j) copies[j - begin] = row[j];
}

void GraphHead::Copies(int64_t i, const int32_t* keys, int64_t count, float* copies) const {
  const uint8_t* const row = copies_ + i * copies_stride_;
  for (int64_t e = 0; e < count; ++e) copies[e] = row[keys[e]];
}

void GraphHead::Keep(const uint32_t* words, int64_t count, float* x) const {
  if (x == nullptr) return;
  vector_.keep_from(words, p_.dropout.threshold(), static_cast<float>(p_.dropout.factor()), x, x,
                    count);
}

void GraphHead::Drop(int64_t i, int64_t begin, int64_t end, float* x, float* y) const {
  WordList words(vector_, p_.dropout.seed, dropped_, i + p_.keys - p_.queries);
  for (int64_t j = begin; j < end; j += 4 * WordList::kMost) {
    const int64_t count = std::min(4 * WordList::kMost, end - j);
    words.Fill(j / 4, (count + 3) / 4);
    Keep(words.Words(0), count, x + (j - begin));
    Keep(words.Words(0), count, y == nullptr ? nullptr : y + (j - begin));
  }
}

void GraphHead::Drop(int64_t i, const int32_t* keys, int64_t count, float* x, float* y) const {
  WordList words(vector_, p_.dropout.seed, dropped_, i + p_.keys - p_.queries);
  uint32_t own[WordList::kMost];
  for (int64_t first = 0; first < count; first += WordList::kMost) {
    const int64_t some = std::min(WordList::kMost, count - first);
    words.Fill(keys + first, some, 4);
    for (int64_t e = 0; e < some; ++e) own[e] = words.Words(e)[keys[first + e] % 4];
    Keep(own, some, x + first);
    Keep(own, some, y == nullptr ? nullptr : y + first);
  }
}

}  // namespace weft::kernels
