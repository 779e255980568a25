// One VM on the page: what it is, and its plots if this host is its pair's primary.

import {axisEnd, axisEndOfBytes, bytes, count, History, milliseconds, ratio, standing} from './model.js';
import {LinePlot, ModePlot} from './plot.js';

const facts = [
  ['Role', (vm) => vm.role],
  ['Peer', (vm) => vm.peer ?? 'none'],
  ['Policy', (vm) => (vm.peer ? vm.policy : 'none')],
  ['Mode now', (vm) => vm.mode ?? 'none'],
  ['Controller', (vm) => vm.controller && `${vm.controller.state}, next checkpoint after ${milliseconds(vm.controller.due_ms)} at the latest`],
  ['Checkpoints', (vm) => vm.peer && `${vm.checkpoints.last}, ${vm.checkpoints.committed} committed, ${vm.checkpoints.loaded} loaded`],
  ['Generation', (vm) => `${vm.generation}`],
  ['Last failover', (vm) => vm.failover && `${milliseconds(vm.failover.total_ms)}: ${vm.failover.reason}`],
  ['Last error', (vm) => vm.last_error],
];

export class Row {
  history = new History();
  visible = false;
  #facts = new Map();

  constructor(name, parent) {
    this.element = document.createElement('article');
    this.element.className = 'vm';
    this.element.dataset.vm = name;
    const about = document.createElement('div');
    const title = document.createElement('h3');
    title.textContent = name;
    title.id = `vm-${name}`;
    this.element.setAttribute('aria-labelledby', title.id);
    this.state = document.createElement('p');
    const list = document.createElement('dl');
    for (const [term] of facts) {
      const dt = document.createElement('dt');
      const dd = document.createElement('dd');
      dt.textContent = term;
      dd.dataset.fact = term;
      list.append(dt, dd);
      this.#facts.set(term, {dt, dd});
    }
    about.append(title, this.state, list);
    this.plots = document.createElement('div');
    this.plots.className = 'plots';
    this.why = document.createElement('p');
    this.why.className = 'note';
    this.plots.append(this.why);
    this.#makePlots();
    this.element.append(about, this.plots);
    parent.append(this.element);
  }

  /// Whether there are observations to ask for.
  get wantsObservations() {
    return this.visible && this.vm.role === 'primary' && Boolean(this.vm.controller);
  }

  /// A new status.
  look(vm, now) {
    this.vm = vm;
    this.history.look(vm, now);
    const {text, kind} = standing(vm);
    this.state.textContent = text;
    this.state.className = `state ${kind}`;
    for (const [term, value] of facts) {
      const words = value(vm);
      const {dt, dd} = this.#facts.get(term);
      dt.hidden = dd.hidden = !words;
      dd.textContent = words ?? '';
    }
    this.#facts.get('Mode now').dd.className = vm.mode ? `mode-${vm.mode}` : '';
  }

  draw(now) {
    const {vm, history} = this;
    const isPrimary = vm.role === 'primary';
    this.why.hidden = isPrimary || history.checkpoints > 0;
    this.why.textContent =
      vm.role === 'secondary' ? `Its plots are on ${vm.peer}, where it runs for its clients.` : 'Plots begin with its protection.';
    for (const figure of this.plots.querySelectorAll('figure')) figure.hidden = !this.why.hidden;
    if (!this.why.hidden || !this.visible) return;
    this.mode.show(history.modes(isPrimary ? vm.mode : null, now), now);
    this.downtime.show(
      history.points((r) => r.figures.downtime_ratio),
      now,
      history.points((r) => r.figures.downtime_ratio_bound),
    );
    this.pause.show(history.points((r) => r.observation.pause_s * 1000), now);
    this.size.show(history.points((r) => r.observation.bytes), now);
    this.mismatches.show(history.points((r) => r.observation.mismatches), now);
    this.held.show(history.held(), now);
  }

  #makePlots() {
    this.mode = new ModePlot('mode', 'Mode', this.plots);
    this.downtime = new LinePlot('downtime', 'Downtime ratio', {format: ratio, axis: (largest) => axisEnd(largest, 0.01), second: 'bound'}, this.plots);
    this.pause = new LinePlot('pause', 'Pause', {format: milliseconds, axis: (largest) => axisEnd(largest, 1)}, this.plots);
    this.size = new LinePlot('bytes', 'Bytes per checkpoint', {format: bytes, axis: axisEndOfBytes}, this.plots);
    this.mismatches = new LinePlot('mismatches', 'Differences', {format: count, axis: (largest) => axisEnd(largest, 1), bars: true}, this.plots);
    this.held = new LinePlot('held', 'Held output', {format: bytes, axis: axisEndOfBytes}, this.plots);
  }
}
