// One small plot over the last minutes: a figure with a caption that tells its newest value, or the one that
// is pointed at.

import {clock, windowSeconds} from './model.js';

const width = 300;
const height = 60;
const columns = 150;
const svgNamespace = 'http://www.w3.org/2000/svg';

function make(name, attributes, parent) {
  const element = document.createElementNS(svgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function makeHtml(name, className, parent) {
  const element = document.createElement(name);
  element.className = className;
  parent.append(element);
  return element;
}

/// One point for each column of the picture, the largest of those that fall into it.
function thin(points, from) {
  const kept = [];
  let column = -1;
  for (const point of points) {
    const here = Math.floor(((point.at - from) / windowSeconds) * columns);
    if (here === column && point.joined) {
      if (point.value > kept.at(-1).value) kept[kept.length - 1] = {...point, joined: kept.at(-1).joined};
    } else {
      kept.push(point);
      column = here;
    }
  }
  return kept;
}

class Figure {
  constructor(kind, title, parent) {
    this.title = title;
    this.element = makeHtml('figure', `plot ${kind}`, parent);
    const caption = makeHtml('figcaption', '', this.element);
    makeHtml('span', 'name', caption).textContent = title;
    this.value = makeHtml('output', 'value', caption);
    const frame = makeHtml('div', 'frame', this.element);
    this.svg = make('svg', {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img'}, frame);
    this.top = makeHtml('span', 'top', frame);
    this.empty = makeHtml('span', 'empty', frame);
    this.empty.textContent = 'nothing yet';
    this.pointedAt = null;
    this.svg.addEventListener('pointermove', (event) => {
      const box = this.svg.getBoundingClientRect();
      this.pointedAt = (event.clientX - box.left) / box.width;
      this.tell();
    });
    this.svg.addEventListener('pointerleave', () => {
      this.pointedAt = null;
      this.tell();
    });
  }

  shown(points, words) {
    this.empty.hidden = points > 0;
    this.svg.dataset.points = points;
    this.svg.setAttribute('aria-label', `${this.title}, last 5 minutes: ${words}`);
    this.tell();
  }

  /// The time that is pointed at; null: none.
  get time() {
    return this.pointedAt === null ? null : this.until - (1 - this.pointedAt) * windowSeconds;
  }
}

/// Lines, or bars where each value stands for itself. `format`: a value's text; `axis`: the largest value's end
/// of the axis; `second`: what the dashed line is called, if there is one.
export class LinePlot extends Figure {
  #format;
  #axis;
  #second;
  #bars;
  #points = [];
  #bounds = [];

  constructor(kind, title, {format, axis, second, bars}, parent) {
    super(kind, title, parent);
    this.#format = format;
    this.#axis = axis;
    this.#second = second;
    this.#bars = bars;
    this.bound = make('path', {class: 'bound'}, this.svg);
    this.line = make('path', {class: 'line'}, this.svg);
  }

  show(points, now, bounds = []) {
    this.until = now;
    const from = now - windowSeconds;
    const inView = (list) => list.filter((point) => point.at >= from);
    this.#points = inView(points);
    this.#bounds = inView(bounds);
    const largest = Math.max(0, ...this.#points.concat(this.#bounds).map((point) => point.value));
    const end = this.#axis(largest);
    const path = (list) =>
      thin(list, from)
        .map(({at, value, joined}, i) => {
          const x = (((at - from) / windowSeconds) * width).toFixed(1);
          const y = (height - 2 - (value / end) * (height - 6)).toFixed(1);
          if (this.#bars) return value > 0 ? `M${x} ${height - 2}V${y}` : '';
          return joined && i > 0 ? `L${x} ${y}` : `M${x} ${y}h0`;
        })
        .join('');
    this.line.setAttribute('d', path(this.#points));
    this.bound.setAttribute('d', path(this.#bounds));
    this.top.textContent = this.#points.length ? this.#format(end) : '';
    const newest = this.#points.at(-1);
    this.shown(
      this.#points.length,
      newest ? `newest ${this.#format(newest.value)}, largest ${this.#format(Math.max(...this.#points.map((p) => p.value)))}` : 'nothing',
    );
  }

  tell() {
    const time = this.time;
    const pick = (list) => {
      if (time === null) return list.at(-1);
      return list.reduce((best, point) => (best && Math.abs(best.at - time) <= Math.abs(point.at - time) ? best : point), undefined);
    };
    const point = pick(this.#points);
    const bound = pick(this.#bounds);
    const parts = point ? [this.#format(point.value)] : [];
    if (bound) parts.push(`${this.#second} ${this.#format(bound.value)}`);
    if (point && time !== null) parts.push(clock(point.at));
    this.value.textContent = parts.join(' · ');
  }
}

/// Which mode ran when. The two differ in place and colour.
export class ModePlot extends Figure {
  #spans = [];

  constructor(kind, title, parent) {
    super(kind, title, parent);
    this.paths = {colo: make('path', {class: 'colo'}, this.svg), periodic: make('path', {class: 'periodic'}, this.svg)};
  }

  show(spans, now) {
    this.until = now;
    const from = now - windowSeconds;
    this.#spans = spans.filter((span) => span.until > from);
    const x = (at) => Math.max(0, ((at - from) / windowSeconds) * width);
    for (const [mode, path] of Object.entries(this.paths)) {
      const top = mode === 'colo' ? 6 : 34;
      const boxes = this.#spans
        .filter((span) => span.mode === mode)
        .map((span) => `M${x(span.from).toFixed(1)} ${top}H${Math.max(x(span.until), x(span.from) + 1).toFixed(1)}v20H${x(span.from).toFixed(1)}z`);
      path.setAttribute('d', boxes.join(''));
    }
    const shares = Object.keys(this.paths).map((mode) => {
      const spent = this.#spans.filter((span) => span.mode === mode).reduce((sum, span) => sum + span.until - Math.max(span.from, from), 0);
      return `${mode} ${Math.round(spent)} s`;
    });
    this.shown(this.#spans.length, shares.join(', '));
  }

  tell() {
    const time = this.time;
    const span = time === null ? this.#spans.at(-1) : this.#spans.find((s) => s.from <= time && time <= s.until);
    this.value.textContent = span ? (time === null ? span.mode : `${span.mode} · ${clock(time)}`) : '';
    this.value.className = span ? `value mode-${span.mode}` : 'value';
  }
}
