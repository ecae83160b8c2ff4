// The two passes of the projection over float32 weights, row by row, with vector instructions. The first may take AdamW's step on
// its way, so that weights and gradients are not read once more.
//
// cpu.py compiles this file when the first step is taken. The results of a block of rows go to a place of its
// own, so that they do not depend on the number of threads. tensor.py says what `held` holds, and
// equations.py has the equations.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr float kFloor = RADIUS_FLOOR;  // of equations.py, as the compiler is told
constexpr int64_t kChunk = 4096;  // elements that are summed in float32 before their sum goes to a double
constexpr int64_t kPanel = PANEL;  // of cpu.py
constexpr uint16_t kNaN = 0x7fc0;  // in bfloat16

enum Type : int64_t { kFloat32, kBFloat16, kFloat16 };  // HELD_DTYPES of tensor.py, which begin with GRADIENT_DTYPES

struct AdamW {  // AdamWNumbers of adamw_step.py
    float decay, exp_avg_weight, beta2, exp_avg_sq_weight, step_size, correction, eps, sign;
};

struct Tensor {  // _Tensor of cpu.py
    float *weight;
    void *held;
    const void *gradient;
    Type held_type, gradient_type;
    int64_t rows_together, group_stride, row_stride, outer, step, inner;  // Grid of tensor.py
    int64_t is_fragment;  // part of one row, whose norm only all processes together know
    uint16_t *rounded;  // the bfloat16 parameter that the weight is the master of, or null
    float *exp_avg, *exp_avg_sq;  // null where torch takes the step
    AdamW adamw;

    int64_t start_of(int64_t row) const { return row / rows_together * group_stride + row % rows_together * row_stride; }
};

struct Block {  // Block of tensor.py
    int64_t tensor, first_row, end_row;
};

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

float multiply_add(float x, float y, float z) {  // in one rounding where the processor can
#ifdef FP_FAST_FMAF
    return std::fma(x, y, z);
#else
    return x * y + z;
#endif
}

float rounded_product(float x, float y) {  // with which no compiler fuses the addition after it
    return multiply_add(x, y, -0.0f);
}

uint32_t upper_bits(uint32_t bits, int dropped) {  // to nearest, ties to even
    return (bits + (1u << (dropped - 1)) - 1 + ((bits >> dropped) & 1)) >> dropped;
}

struct Float32 {
    float value;
    operator float() const { return value; }
    static Float32 of(float x) { return {x}; }
};

struct BFloat16 {
    uint16_t bits;
    operator float() const { return float_of(uint32_t{bits} << 16); }
    static BFloat16 of(float x) { return {static_cast<uint16_t>(upper_bits(bits_of(x), 16))}; }
};

struct Float16 {  // finite values only: 2¹¹² is the difference of the exponents' biases
    uint16_t bits;
    operator float() const {
        float magnitude = float_of(uint32_t(bits & 0x7fff) << 13) * 0x1p112f;
        return bits & 0x8000 ? -magnitude : magnitude;
    }
    static Float16 of(float x) {
        uint32_t magnitude = upper_bits(bits_of(std::fabs(x) * 0x1p-112f), 13);
        return {static_cast<uint16_t>(magnitude | (bits_of(x) >> 31) << 15)};
    }
};

// A gradient, from some element on.
struct Gradient {
    const void *first;
    Type type;

    Gradient(const Tensor &tensor, int64_t start) : type(tensor.gradient_type) {
        const char *bytes = static_cast<const char *>(tensor.gradient);
        first = bytes + start * int64_t(type == kBFloat16 ? sizeof(BFloat16) : sizeof(float));
    }

    // Elements in float32: where they are, or in the room that is given. The sums are the same in either case.
    const float *elements(int64_t start, int64_t end, float *__restrict room) const {
        if (type == kFloat32) return static_cast<const float *>(first) + start;
        const BFloat16 *__restrict narrow = static_cast<const BFloat16 *>(first) + start;
#pragma omp simd
        for (int64_t i = 0; i < end - start; i++) room[i] = narrow[i];
        return room;
    }
};

// A sum over a row, in float32 over a chunk and in double over the chunks.
template <class Chunk>
void for_each_chunk(int64_t columns, Chunk chunk) {
    for (int64_t start = 0; start < columns; start += kChunk)
        chunk(start, start + kChunk < columns ? start + kChunk : columns);
}

// An element of torch's fused AdamW, in its order of operations (FusedAdamKernel.cpp of torch 2.13): the new weight.
inline float adamw(float weight, float gradient, float &exp_avg, float &exp_avg_sq, AdamW step) {
    float along = step.sign * gradient;
    exp_avg = multiply_add(step.exp_avg_weight, along - exp_avg, exp_avg);
    exp_avg_sq = multiply_add(step.exp_avg_sq_weight * along, along, exp_avg_sq * step.beta2);
    float change = step.step_size * exp_avg / (std::sqrt(exp_avg_sq) / step.correction + step.eps);
    return rounded_product(weight, step.decay) - change;
}

template <class Held>
float norm_of_row(const float *__restrict weight, const Held *__restrict held, int64_t columns) {
    double norm = kFloor;
    for_each_chunk(columns, [&](int64_t start, int64_t end) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; i++) sum += std::fabs(weight[i] - held[i]);
        norm += sum;
    });
    return static_cast<float>(norm);
}

struct Sums {
    float norm, product;
};

// Of part of a row, ‖c‖₁ and ⟨g, c⟩; and its elements take AdamW's step, if they have moments.
template <bool kMoves, class Held>
Sums sums_of_chunk(float *__restrict weight, const Held *__restrict held, const float *__restrict gradient,
                   float *__restrict exp_avg, float *__restrict exp_avg_sq, int64_t count, AdamW step) {
    float norm = 0, product = 0;
#pragma omp simd reduction(+ : norm, product)
    for (int64_t i = 0; i < count; i++) {
        float displacement = weight[i] - held[i];
        norm += std::fabs(displacement);
        product += gradient[i] * displacement;
        if constexpr (kMoves) weight[i] = adamw(weight[i], gradient[i], exp_avg[i], exp_avg_sq[i], step);
    }
    return {norm, product};
}

// The same at the floor, where the buffer holds the direction, and takes the anchor back. Of a lost row it holds the anchor.
template <bool kMoves, bool kIsLost, class Held>
float product_of_chunk_at_floor(float *__restrict weight, Held *__restrict held, const float *__restrict gradient,
                                float *__restrict exp_avg, float *__restrict exp_avg_sq, int64_t count, AdamW step) {
    float product = 0;
#pragma omp simd reduction(+ : product)
    for (int64_t i = 0; i < count; i++) {
        product += gradient[i] * held[i];
        if constexpr (!kIsLost) held[i] = Held::of(weight[i]);
        if constexpr (kMoves) weight[i] = adamw(weight[i], gradient[i], exp_avg[i], exp_avg_sq[i], step);
    }
    return product;
}

template <bool kMoves, class Held>
double radius_gradient_of_row(const Tensor &tensor, int64_t first, float radius, bool at_floor) {
    double norm = kFloor, product = 0;
    Gradient gradients(tensor, first);
    for_each_chunk(tensor.inner, [&](int64_t start, int64_t end) {
        float room[kChunk];
        const float *gradient = gradients.elements(start, end, room);
        int64_t from = first + start, count = end - start;
        Held *held = static_cast<Held *>(tensor.held) + from;
        float *exp_avg = kMoves ? tensor.exp_avg + from : nullptr, *exp_avg_sq = kMoves ? tensor.exp_avg_sq + from : nullptr;
        float *weight = tensor.weight + from;
        if (at_floor) {
            product += std::isnan(*weight)
                ? product_of_chunk_at_floor<kMoves, true>(weight, held, gradient, exp_avg, exp_avg_sq, count, tensor.adamw)
                : product_of_chunk_at_floor<kMoves, false>(weight, held, gradient, exp_avg, exp_avg_sq, count, tensor.adamw);
        } else {
            Sums sums = sums_of_chunk<kMoves>(weight, held, gradient, exp_avg, exp_avg_sq, count, tensor.adamw);
            norm += sums.norm;
            product += sums.product;
        }
    });
    // The projection leaves a single row at a norm of γ, whatever its parts are. A direction's is 1.
    return at_floor ? product : product / (norm < radius && !tensor.is_fragment ? norm : radius);
}

template <class Held>
void project_row(float *__restrict weight, const Held *__restrict held, int64_t columns, float scale) {
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) {
        float anchor = held[i];
        weight[i] = anchor + (weight[i] - anchor) * scale;
    }
}

template <class Held>
void rest_row_at_anchor(float *__restrict weight, Held *__restrict held, int64_t columns, float norm) {
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) {
        float anchor = held[i];
        held[i] = Held::of((weight[i] - anchor) / norm);
        weight[i] = anchor;
    }
}

// At the floor all of a row that is not finite says so, its first element too: the buffer keeps the anchor of such a row.
void lose_row(float *weight, int64_t columns) {
    for (int64_t i = 0; i < columns; i++) weight[i] = NAN;
}

void adamw_step(const Tensor &tensor, int64_t start, const float *__restrict gradient, int64_t count) {
    float *__restrict weight = tensor.weight + start, *__restrict exp_avg = tensor.exp_avg + start;
    float *__restrict exp_avg_sq = tensor.exp_avg_sq + start;
    AdamW step = tensor.adamw;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) weight[i] = adamw(weight[i], gradient[i], exp_avg[i], exp_avg_sq[i], step);
}

void round_elements(const Tensor &tensor, int64_t start, int64_t count) {
    const float *__restrict weight = tensor.weight + start;
    uint16_t *__restrict rounded = tensor.rounded + start;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) rounded[i] = weight[i] == weight[i] ? BFloat16::of(weight[i]).bits : kNaN;
}

// Rows that lie side by side, each spread over `outer` places: at each place, `width` elements of them all.
template <class Held>
struct Panel {
    float *weight;
    Held *held;
    Gradient gradients;
    int64_t outer, step, inner, width;

    Panel(const Tensor &tensor, int64_t row, int64_t count)
        : weight(tensor.weight + tensor.start_of(row)),
          held(static_cast<Held *>(tensor.held) + tensor.start_of(row)),
          gradients(tensor, tensor.start_of(row)),
          outer(tensor.outer), step(tensor.step), inner(tensor.inner), width(count * tensor.inner) {}

    // The sums over each row of what `at(first element of a place)` says that each element of the place adds.
    template <class At>
    void sum(double *of_rows, At at) const {
        for_each_chunk(outer, [&](int64_t start, int64_t end) {
            float sums[kPanel] = {};
            for (int64_t place = start; place < end; place++) {
                auto added = at(place * step);
#pragma omp simd
                for (int64_t i = 0; i < width; i++) sums[i] += added(i);
            }
            for (int64_t i = 0; i < width; i++) of_rows[i / inner] += sums[i];
        });
    }

    void norms(double *of_rows) const {
        const float *__restrict weights = weight;
        const Held *__restrict helds = held;
        for (int64_t row = 0; row < width / inner; row++) of_rows[row] = kFloor;
        sum(of_rows, [=](int64_t first) {
            return [=](int64_t i) { return std::fabs(weights[first + i] - helds[first + i]); };
        });
    }

    double radius_gradient(float radius, bool is_fragment) const {
        const float *__restrict weights = weight;
        const Held *__restrict helds = held;
        double norm[kPanel], product[kPanel] = {}, total = 0;
        for (int64_t row = 0; row < width / inner; row++) norm[row] = kFloor;
        for_each_chunk(outer, [&](int64_t start, int64_t end) {
            float norms[kPanel] = {}, products[kPanel] = {};
            for (int64_t place = start; place < end; place++) {
                int64_t first = place * step;
                float room[kPanel];
                const float *__restrict gradient = gradients.elements(first, first + width, room);
#pragma omp simd
                for (int64_t i = 0; i < width; i++) {
                    float displacement = weights[first + i] - helds[first + i];
                    norms[i] += std::fabs(displacement);
                    products[i] += gradient[i] * displacement;
                }
            }
            for (int64_t i = 0; i < width; i++) norm[i / inner] += norms[i], product[i / inner] += products[i];
        });
        for (int64_t row = 0; row < width / inner; row++)
            total += product[row] / (norm[row] < radius && !is_fragment ? norm[row] : radius);
        return total;
    }

    bool has_lost_row() const {
        for (int64_t i = 0; i < width; i += inner)
            if (std::isnan(weight[i])) return true;
        return false;
    }

    template <bool kHasLostRow>
    double radius_gradient_at_floor() const {
        const float *__restrict weights = weight;
        Held *__restrict helds = held;
        double product[kPanel] = {}, total = 0;
        float room[kPanel];
        sum(product, [&](int64_t first) {
            const float *__restrict gradient = gradients.elements(first, first + width, room);
            return [=](int64_t i) {
                float along = gradient[i] * helds[first + i];
                if (!kHasLostRow || !std::isnan(weights[first + i])) helds[first + i] = Held::of(weights[first + i]);
                return along;
            };
        });
        for (int64_t row = 0; row < width / inner; row++) total += product[row];
        return total;
    }

    void take_adamw_step(const Tensor &tensor) const {
        for (int64_t place = 0; place < outer; place++) {
            float room[kPanel];
            const float *gradient = gradients.elements(place * step, place * step + width, room);
            adamw_step(tensor, weight - tensor.weight + place * step, gradient, width);
        }
    }

    void round(const Tensor &tensor) const {
        for (int64_t place = 0; place < outer; place++)
            round_elements(tensor, weight - tensor.weight + place * step, width);
    }

    // Row by row, where its norm is finite and more than `above`.
    template <class Move>
    void move(const float *norms, float above, Move move_element) const {
        float of_element[kPanel];
        bool moves[kPanel];
        for (int64_t i = 0; i < width; i++) {
            of_element[i] = norms[i / inner];
            moves[i] = std::isfinite(of_element[i]) && of_element[i] > above;
        }
        for (int64_t place = 0; place < outer; place++) {
            int64_t first = place * step;
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                if (moves[i]) move_element(first + i, of_element[i]);
        }
    }

    // Rows whose norm is not finite, at the floor: as `lose_row`.
    void lose(const float *norms) const {
        for (int64_t i = 0; i < width; i++)
            if (!std::isfinite(norms[i / inner]))
                for (int64_t place = 0; place < outer; place++) weight[place * step + i] = NAN;
    }

    void project(const float *norms, float radius) const {
        float *__restrict weights = weight;
        Held *__restrict helds = held;
        if (radius <= kFloor) {
            move(norms, 0, [=](int64_t i, float norm) {
                float anchor = helds[i];
                helds[i] = Held::of((weights[i] - anchor) / norm);
                weights[i] = anchor;
            });
            lose(norms);
        } else
            move(norms, radius, [=](int64_t i, float norm) {
                float anchor = helds[i];
                weights[i] = anchor + (weights[i] - anchor) * (radius / norm);
            });
    }
};

// The rows of a block in panels; a panel ends with its matrix.
template <class Held, class Work>
void for_each_panel(const Tensor &tensor, const Block &block, Work work) {
    for (int64_t row = block.first_row, count; row < block.end_row; row += count) {
        int64_t left = tensor.rows_together - row % tensor.rows_together, room = kPanel / tensor.inner;
        count = block.end_row - row < left ? block.end_row - row : left;
        count = count < room ? count : room;
        work(Panel<Held>(tensor, row, count), count);
    }
}

template <class Held>
double radius_gradient(const Tensor &tensor, const Block &block, float radius, bool at_floor) {
    double sum = 0;
    if (tensor.outer > 1) {
        for_each_panel<Held>(tensor, block, [&](const Panel<Held> &panel, int64_t) {
            if (!at_floor)
                sum += panel.radius_gradient(radius, tensor.is_fragment);
            else
                sum += panel.has_lost_row() ? panel.template radius_gradient_at_floor<true>()
                                            : panel.template radius_gradient_at_floor<false>();
            if (tensor.exp_avg) panel.take_adamw_step(tensor);
        });
        return sum;
    }
    auto of_row = tensor.exp_avg ? radius_gradient_of_row<true, Held> : radius_gradient_of_row<false, Held>;
    for (int64_t row = block.first_row; row < block.end_row; row++)
        sum += of_row(tensor, tensor.start_of(row), radius, at_floor);
    return sum;
}

// What the norm of a row counts for in the results of a block; false where it is not finite, and the row stays.
bool counts(float norm, float radius, float &largest, float &projected) {
    if (!std::isfinite(norm)) {
        largest = INFINITY;
        return false;
    }
    if (norm > largest) largest = norm;
    if (norm > radius) projected++;
    return true;
}

template <class Held>
void project(const Tensor &tensor, const Block &block, float radius, float row_norm, float &largest, float &projected) {
    if (tensor.outer > 1) {
        for_each_panel<Held>(tensor, block, [&](const Panel<Held> &panel, int64_t count) {
            double sums[kPanel];
            float norms[kPanel];
            if (!tensor.is_fragment) panel.norms(sums);
            for (int64_t row = 0; row < count; row++) {
                norms[row] = tensor.is_fragment ? row_norm : static_cast<float>(sums[row]);
                counts(norms[row], radius, largest, projected);
            }
            panel.project(norms, radius);
            if (tensor.rounded) panel.round(tensor);
        });
        return;
    }
    for (int64_t row = block.first_row; row < block.end_row; row++) {
        int64_t start = tensor.start_of(row);
        float *weight = tensor.weight + start;
        Held *held = static_cast<Held *>(tensor.held) + start;
        float norm = tensor.is_fragment ? row_norm : norm_of_row(weight, held, tensor.inner);
        bool is_finite = counts(norm, radius, largest, projected);
        if (is_finite && radius <= kFloor)
            rest_row_at_anchor(weight, held, tensor.inner, norm);
        else if (radius <= kFloor)
            lose_row(weight, tensor.inner);
        else if (is_finite && norm > radius)
            project_row(weight, held, tensor.inner, radius / norm);
        if (tensor.rounded) round_elements(tensor, start, tensor.inner);
    }
}

float larger(float largest, float norm) {  // a norm that is not a number is the largest of them
    return std::isnan(largest) || norm <= largest ? largest : norm;
}

template <class Held>
float distance(const Tensor &tensor, const Block &block) {
    float largest = 0;
    if (tensor.outer > 1) {
        for_each_panel<Held>(tensor, block, [&](const Panel<Held> &panel, int64_t count) {
            double sums[kPanel];
            panel.norms(sums);
            for (int64_t row = 0; row < count; row++) largest = larger(largest, static_cast<float>(sums[row]));
        });
        return largest;
    }
    for (int64_t row = block.first_row; row < block.end_row; row++) {
        int64_t start = tensor.start_of(row);
        largest = larger(largest, norm_of_row(tensor.weight + start, static_cast<Held *>(tensor.held) + start, tensor.inner));
    }
    return largest;
}

template <class Work>
void for_each_block(const Block *blocks, int64_t count, Work work) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) work(i, blocks[i]);
}

}  // namespace

extern "C" void ftp_radius_gradients(int64_t count, const Tensor *tensors, const float *radii, const float *at_floor,
                                     const Block *blocks, double *gradients) {
    for_each_block(blocks, count, [=](int64_t i, const Block &block) {
        const Tensor &tensor = tensors[block.tensor];
        auto of = tensor.held_type == kFloat32    ? radius_gradient<Float32>
                  : tensor.held_type == kBFloat16 ? radius_gradient<BFloat16>
                                                  : radius_gradient<Float16>;
        gradients[i] = of(tensor, block, radii[block.tensor], at_floor[block.tensor] > 0);
    });
}

extern "C" void ftp_project(int64_t count, const Tensor *tensors, const float *radii, const float *row_norms,
                            const Block *blocks, float *largest, float *projected) {
    for_each_block(blocks, count, [=](int64_t i, const Block &block) {
        const Tensor &tensor = tensors[block.tensor];
        auto of = tensor.held_type == kFloat32    ? project<Float32>
                  : tensor.held_type == kBFloat16 ? project<BFloat16>
                                                  : project<Float16>;
        of(tensor, block, radii[block.tensor], row_norms[block.tensor], largest[i], projected[i]);
    });
}

extern "C" void ftp_distances(int64_t count, const Tensor *tensors, const Block *blocks, float *distances) {
    for_each_block(blocks, count, [=](int64_t i, const Block &block) {
        const Tensor &tensor = tensors[block.tensor];
        auto of = tensor.held_type == kFloat32    ? distance<Float32>
                  : tensor.held_type == kBFloat16 ? distance<BFloat16>
                                                  : distance<Float16>;
        distances[i] = of(tensor, block);
    });
}
