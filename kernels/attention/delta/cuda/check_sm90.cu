// Checks the delta rule on Hopper against the token-by-token recurrence in fp64 on the CPU, and
// times it:  check_sm90 [check|perf|sanitize]. Needs a GPU of compute capability 9.0. Exits with 1
// when an error is above its tolerance or two runs differ in a bit. LOG.md beside it has results.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/delta_sm90.h"
#include "kernels/device/cuda/tensor_map.h"
using namespace weft::kernels;
using namespace weft::kernels::sm90;
#define CK(x)                                                              \
  do {                                                                     \
    cudaError_t e_ = (x);                                                  \
    if (e_ != cudaSuccess) {                                               \
      printf("CUDA %s at %d: %s\n", #x, __LINE__, cudaGetErrorString(e_)); \
      exit(2);                                                             \
    }                                                                      \
  } while (0)
typedef __nv_bfloat16 bf;
static float R(float x) { return __bfloat162float(__float2bfloat16(x)); }
struct Data {
  std::vector<float> q, k, v, be, s0, dO, dS;
};
static Data Make(const DeltaCudaShape& s, double corr, double bmin, double bmax, unsigned seed) {
  Data d;
  size_t n = (size_t)s.batch * s.tokens * s.heads;
  std::mt19937 g(seed);
  std::normal_distribution<float> nd;
  std::uniform_real_distribution<float> u(0, 1);
  d.q.resize(n * s.key_dim);
  d.k.resize(n * s.key_dim);
  d.v.resize(n * s.value_dim);
  d.be.resize(n);
  d.dO.resize(n * s.value_dim);
  std::vector<float> base(s.key_dim);
  double bn = 0;
  for (auto& x : base) {
    x = nd(g);
    bn += x * x;
  }
  for (auto& x : base) x /= sqrt(bn);
  for (size_t t = 0; t < n; t++) {
    double a = 0, b = 0;
    std::vector<float> kk(s.key_dim), qq(s.key_dim);
    double kn = 0;
    for (int c = 0; c < s.key_dim; c++) {
      kk[c] = nd(g);
      kn += kk[c] * kk[c];
      qq[c] = nd(g);
      a += qq[c] * qq[c];
    }
    for (int c = 0; c < s.key_dim; c++) {
      kk[c] = sqrt(corr) * base[c] + sqrt(1 - corr) * kk[c] / sqrt(kn);
      b += kk[c] * kk[c];
    }
    for (int c = 0; c < s.key_dim; c++) {
      d.k[t * s.key_dim + c] = R(kk[c] / sqrt(b));
      d.q[t * s.key_dim + c] = R(qq[c] / sqrt(a) / sqrt(s.key_dim));
    }
    for (int c = 0; c < s.value_dim; c++) {
      d.v[t * s.value_dim + c] = R(nd(g));
      d.dO[t * s.value_dim + c] = R(nd(g));
    }
    d.be[t] = R(bmin + (bmax - bmin) * u(g));
  }
  size_t ns = (size_t)s.batch * s.heads * s.key_dim * s.value_dim;
  d.s0.resize(ns);
  d.dS.resize(ns);
  for (auto& x : d.s0) x = nd(g) * .1f;
  for (auto& x : d.dS) x = nd(g) * .1f;
  return d;
}
struct Out {
  std::vector<double> o, S, e, dq, dk, dv, db, ds0;
};
static Out Ref(const DeltaCudaShape& s, const Data& d) {
  Out r;
  int K = s.key_dim, V = s.value_dim;
  size_t n = (size_t)s.batch * s.tokens * s.heads;
  size_t ns = (size_t)s.batch * s.heads * K * V;
  r.o.resize(n * V);
  r.e.resize(n * V);
  r.dq.resize(n * K);
  r.dk.resize(n * K);
  r.dv.resize(n * V);
  r.db.resize(n);
  r.S.resize(ns);
  r.ds0.resize(ns);
  for (int b = 0; b < s.batch; b++)
    for (int h = 0; h < s.heads; h++) {
      size_t sp = ((size_t)b * s.heads + h) * K * V;
      std::vector<double> S(K * V), D(K * V), y(V);
      for (int i = 0; i < K * V; i++) {
        S[i] = d.s0[sp + i];
        D[i] = d.dS[sp + i];
      }
      for (int t = 0; t < s.tokens; t++) {
        size_t p = ((size_t)b * s.tokens + t) * s.heads + h;
        const float *k = &d.k[p * K], *q = &d.q[p * K], *v = &d.v[p * V];
        double *e = &r.e[p * V], *o = &r.o[p * V];
        for (int j = 0; j < V; j++) e[j] = v[j];
        for (int i = 0; i < K; i++)
          for (int j = 0; j < V; j++) e[j] -= S[i * V + j] * k[i];
        for (int i = 0; i < K; i++)
          for (int j = 0; j < V; j++) {
            S[i * V + j] += d.be[p] * k[i] * e[j];
            o[j] += S[i * V + j] * q[i];
          }
      }
      for (int i = 0; i < K * V; i++) r.S[sp + i] = S[i];
      for (int t = s.tokens - 1; t >= 0; t--) {
        size_t p = ((size_t)b * s.tokens + t) * s.heads + h;
        const float *k = &d.k[p * K], *q = &d.q[p * K], *g = &d.dO[p * V];
        const double* e = &r.e[p * V];
        double be = d.be[p];
        std::fill(y.begin(), y.end(), 0.);
        for (int i = 0; i < K; i++) {
          double a = 0;
          for (int j = 0; j < V; j++) {
            a += S[i * V + j] * g[j];
            D[i * V + j] += q[i] * g[j];
            y[j] += D[i * V + j] * k[i];
          }
          r.dq[p * K + i] = a;
        }
        double db = 0;
        for (int j = 0; j < V; j++) {
          db += y[j] * e[j];
          r.dv[p * V + j] = be * y[j];
        }
        r.db[p] = db;
        for (int i = 0; i < K; i++) {
          double a = 0;
          for (int j = 0; j < V; j++) {
            a += be * D[i * V + j] * e[j];
            S[i * V + j] -= be * k[i] * e[j];
            a -= S[i * V + j] * r.dv[p * V + j];
            D[i * V + j] -= k[i] * r.dv[p * V + j];
          }
          r.dk[p * K + i] = a;
        }
      }
      for (int i = 0; i < K * V; i++) r.ds0[sp + i] = D[i];
    }
  return r;
}
template <class T>
static T* Dev(size_t n, int fill = 0xff) {
  T* p;
  CK(cudaMalloc(&p, std::max<size_t>(n, 1) * sizeof(T)));
  CK(cudaMemset(p, fill, std::max<size_t>(n, 1) * sizeof(T)));
  return p;
}
static bf* Up(const std::vector<float>& x) {
  std::vector<bf> h(x.size());
  for (size_t i = 0; i < x.size(); i++) h[i] = __float2bfloat16(x[i]);
  bf* p = Dev<bf>(x.size());
  CK(cudaMemcpy(p, h.data(), x.size() * 2, cudaMemcpyHostToDevice));
  return p;
}
static float* UpF(const std::vector<float>& x) {
  float* p = Dev<float>(x.size());
  CK(cudaMemcpy(p, x.data(), x.size() * 4, cudaMemcpyHostToDevice));
  return p;
}
static std::vector<float> Down(bf* p, size_t n) {
  std::vector<bf> h(n);
  CK(cudaMemcpy(h.data(), p, n * 2, cudaMemcpyDeviceToHost));
  std::vector<float> r(n);
  for (size_t i = 0; i < n; i++) r[i] = __bfloat162float(h[i]);
  return r;
}
static std::vector<float> DownF(float* p, size_t n) {
  std::vector<float> r(n);
  CK(cudaMemcpy(r.data(), p, n * 4, cudaMemcpyDeviceToHost));
  return r;
}
static double Err(const std::vector<float>& a, const std::vector<double>& b) {
  double x = 0, y = 0;
  for (size_t i = 0; i < a.size(); i++) {
    double e = a[i] - b[i];
    x += e * e;
    y += b[i] * b[i];
  }
  if (std::isnan(x)) return NAN;
  return sqrt(x / (y + 1e-300));
}
struct Call {
  DeltaForwardArgs f;
  DeltaBackwardArgs b;
  size_t n, ns;
  int K, V;
  Call(const DeltaCudaShape& s, const Data& d, bool states) {
    K = s.key_dim;
    V = s.value_dim;
    n = (size_t)s.batch * s.tokens * s.heads;
    ns = (size_t)s.batch * s.heads * K * V;
    size_t ch = (size_t)s.batch * s.heads * ChunksOf(s);
    f = {s,
         Up(d.q),
         Up(d.k),
         Up(d.v),
         UpF(d.be),
         Dev<uint8_t>(ch * kRecordBytes),
         states ? UpF(d.s0) : nullptr,
         Dev<bf>(n * V),
         Dev<bf>(n * V),
         Dev<float>(ns),
         Dev<float>(ns)};
    b = {s,
         f.q,
         f.k,
         f.records,
         f.errors,
         f.saved_state,
         Up(d.dO),
         states ? UpF(d.dS) : nullptr,
         Dev<bf>(n * K),
         Dev<bf>(n * K),
         Dev<bf>(n * V),
         Dev<float>(n),
         Dev<float>(ns),
         Dev<uint8_t>(BackwardScratchBytes(s))};
  }
  ~Call() {
    for (void* p :
         {(void*)f.q, (void*)f.k, (void*)f.v, (void*)f.beta, (void*)f.records,
          (void*)f.initial_state, (void*)f.o, (void*)f.errors, (void*)f.final_state,
          (void*)f.saved_state, (void*)b.d_o, (void*)b.d_final_state, (void*)b.d_q, (void*)b.d_k,
          (void*)b.d_v, (void*)b.d_beta, (void*)b.d_initial_state, (void*)b.scratch})
      cudaFree(p);
  }
};
static int bad = 0;
static void Check(DeltaCudaShape s, double corr, double bmin, double bmax, double tol,
                  const char* name) {
  Data d = Make(s, corr, bmin, bmax, 7 + s.tokens);
  Out r = Ref(s, d);
  Call c(s, d, true);
  CK(DeltaForward(c.f, 0));
  CK(cudaDeviceSynchronize());
  CK(DeltaBackward(c.b, 0));
  CK(cudaDeviceSynchronize());
  double e[8] = {
      Err(Down(c.f.o, c.n * c.V), r.o),      Err(DownF(c.f.final_state, c.ns), r.S),
      Err(Down(c.f.errors, c.n * c.V), r.e), Err(Down(c.b.d_q, c.n * c.K), r.dq),
      Err(Down(c.b.d_k, c.n * c.K), r.dk),   Err(Down(c.b.d_v, c.n * c.V), r.dv),
      Err(DownF(c.b.d_beta, c.n), r.db),     Err(DownF(c.b.d_initial_state, c.ns), r.ds0)};
  auto dk = Down(c.b.d_k, c.n * c.K), o = Down(c.f.o, c.n * c.V), dq = Down(c.b.d_q, c.n * c.K),
       dv = Down(c.b.d_v, c.n * c.V), db = DownF(c.b.d_beta, c.n);
  CK(DeltaForward(c.f, 0));
  CK(DeltaBackward(c.b, 0));
  CK(cudaDeviceSynchronize());
  bool same = !memcmp(dk.data(), Down(c.b.d_k, c.n * c.K).data(), dk.size() * 4) &&
              !memcmp(o.data(), Down(c.f.o, c.n * c.V).data(), o.size() * 4) &&
              !memcmp(dq.data(), Down(c.b.d_q, c.n * c.K).data(), dq.size() * 4) &&
              !memcmp(dv.data(), Down(c.b.d_v, c.n * c.V).data(), dv.size() * 4) &&
              !memcmp(db.data(), DownF(c.b.d_beta, c.n).data(), db.size() * 4);
  bool ok = same;
  for (double x : e) ok = ok && x < tol;
  bad += !ok;
  printf(
      "%s %-9s B%d T%d H%d %dx%d o %.2e S %.2e e %.2e dq %.2e dk %.2e dv %.2e db %.2e ds0 %.2e%s\n",
      ok ? "ok  " : "FAIL", name, s.batch, s.tokens, s.heads, s.key_dim, s.value_dim, e[0], e[1],
      e[2], e[3], e[4], e[5], e[6], e[7], same ? "" : " NOT SAME");
  fflush(stdout);
}
static float Time(int n, const std::function<void()>& f) {
  cudaEvent_t a, b;
  cudaEventCreate(&a);
  cudaEventCreate(&b);
  for (int i = 0; i < 3; i++) f();
  std::vector<float> t;
  for (int i = 0; i < n; i++) {
    cudaEventRecord(a);
    f();
    cudaEventRecord(b);
    cudaEventSynchronize(b);
    float m;
    cudaEventElapsedTime(&m, a, b);
    t.push_back(m);
  }
  CK(cudaGetLastError());
  std::sort(t.begin(), t.end());
  return t[n / 2];
}
template <class T>
__global__ void Fill(T* p, size_t n, float lo, float hi, unsigned seed) {
  for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
       i += (size_t)gridDim.x * blockDim.x) {
    unsigned x = (unsigned)i * 2654435761u ^ seed;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
    p[i] = T(lo + (hi - lo) * (x * 2.3283064e-10f));
  }
}
static void Perf(int B, int T, int d, FILE* out) {
  DeltaCudaShape s{B, T, 2048 / d, d, d};
  Data e;
  e.q.resize(1);
  size_t n = (size_t)B * T * s.heads;
  Data dd;
  dd.q.assign(1, 0);
  dd.k.assign(1, 0);
  dd.v.assign(1, 0);
  dd.be.assign(1, 0);
  dd.dO.assign(1, 0);
  Call c(s, dd, false);
  auto big = [&](const bf*& p, size_t m, float lo, float hi, unsigned sd) {
    cudaFree((void*)p);
    bf* x = Dev<bf>(m);
    Fill<<<1024, 256>>>(x, m, lo, hi, sd);
    p = x;
  };
  float w = sqrtf(3.f / d);
  big(c.f.q, n * d, -w / sqrtf(d), w / sqrtf(d), 1);
  big(c.f.k, n * d, -w, w, 2);
  big(c.f.v, n * d, -1.7f, 1.7f, 3);
  cudaFree((void*)c.f.beta);
  {
    float* x = Dev<float>(n);
    Fill<<<1024, 256>>>(x, n, 0.f, 1.f, 4u);
    c.f.beta = x;
  }
  big(c.b.d_o, n * d, -1.7f, 1.7f, 5);
  c.b.q = c.f.q;
  c.b.k = c.f.k;
  CK(cudaDeviceSynchronize());
  float f = Time(20, [&] { CK(DeltaForward(c.f, 0)); });
  float fb = Time(20, [&] {
    CK(DeltaForward(c.f, 0));
    CK(DeltaBackward(c.b, 0));
  });
  auto m = [&](const bf* p, int wd) {
    CUtensorMap x;
    CK(MakeTensorMap(p, B, T, s.heads, wd, 64, &x));
    return x;
  };
  DeltaForwardMaps fm{m(c.f.q, d), m(c.f.k, d), m(c.f.v, d), m(c.f.o, d), m(c.f.errors, d)};
  DeltaBackwardMaps bm{m(c.b.q, d),   m(c.b.k, d),   m(c.b.errors, d), m(c.b.d_o, d),
                       m(c.b.d_q, d), m(c.b.d_k, d), m(c.b.d_v, d)};
  size_t sb = (size_t)B * s.heads * ChunksOf(s) * d * d * 2;
  DeltaChunkStates sc{c.b.scratch, c.b.scratch + sb, (float*)(c.b.scratch + 2 * sb)};
  float p1 = Time(10, [&] { LaunchPrepare(s, fm.q, fm.k, c.f.beta, c.f.records, 0); }),
        p2 = Time(10, [&] { LaunchForward(c.f, fm, 0); }),
        p3 = Time(10, [&] { LaunchStates(c.b, bm, sc, 0); }),
        p4 = Time(10, [&] { LaunchGradients(c.b, bm, sc, 0); });
  auto o = Down(c.b.d_k, 1000);
  double sum = 0;
  for (float x : o) sum += x;
  if (std::isnan(sum)) {
    bad++;
    printf("NaN in perf\n");
  }
  printf(
      "perf d%d %dx%d fwd %.3f fwd+bwd %.3f | prepare %.3f forward %.3f states %.3f gradients "
      "%.3f\n",
      d, B, T, f, fb, p1, p2, p3, p4);
  fflush(stdout);
  if (out) fprintf(out, "delta %d %d %d %.4f %.4f\n", d, B, T, f, fb);
}
int main(int c, char** v) {
  std::string mode = c > 1 ? v[1] : "all";
  if (mode != "perf") {
    int quick = mode == "sanitize";
    for (int K : {64, 128})
      for (int V : {64, 128}) {
        for (int T : quick ? std::vector<int>{130} : std::vector<int>{1, 63, 64, 65, 200, 1000})
          Check({T > 500 ? 1 : 2, T, 3, K, V}, 0, 0, 1, 8e-3, "gauss");
      }
    if (quick) {
      Check({43, 70, 3, 128, 128}, 0, 0, 1, 8e-3, "pairs");
      return bad != 0;
    }
    Check({43, 130, 3, 128, 128}, 0, 0, 1, 8e-3, "pairs");
    Check({43, 130, 3, 64, 128}, 0, 0, 1, 8e-3, "pairs");
    Check({12, 130, 3, 128, 128}, 0, 0, 1, 8e-3, "single");
    Check({12, 130, 3, 64, 128}, 0, 0, 1, 8e-3, "single");
    Check({43, 130, 3, 64, 64}, 0, 0, 1, 8e-3, "single");
    Check({1, 2048, 2, 128, 128}, .5, 0, 1, 1.5e-2, "corr.5");
    Check({1, 2048, 2, 128, 128}, .9, .5, 1, 2e-2, "corr.9");
    Check({1, 1024, 2, 128, 128}, .99, 1.9, 1.9, 1, "c.99b1.9");
  }
  if (mode != "check" && mode != "sanitize") {
    FILE* out = fopen("out/ours.txt", "w");
    char *a, *b;
    size_t by = 4ull << 30;
    CK(cudaMalloc(&a, by));
    CK(cudaMalloc(&b, by));
    float t = Time(5, [&] { cudaMemcpyAsync(a, b, by, cudaMemcpyDeviceToDevice); });
    printf("copy %.3f TB/s\n", 2 * by / t / 1e9);
    if (out) fprintf(out, "copy %.4f\n", 2 * by / t / 1e9);
    cudaFree(a);
    cudaFree(b);
    for (int d : {128, 64}) {
      Perf(16, 2048, d, out);
      Perf(4, 8192, d, out);
      Perf(1, 32768, d, out);
    }
    if (out) fclose(out);
  }
  printf(bad ? "FAILED %d\n" : "passed\n", bad);
  return bad != 0;
}
