// As much of React as a hook needs: createElement, useState, useEffect with dependencies and clean-up, and a root.
let current; // the component that renders

export const createElement = (type, props, ...children) => ({ type, props, children });

function slot(make) {
  const at = current.next++;
  return (current.slots[at] ??= make());
}

export function useState(initial) {
  const root = current, state = slot(() => ({ value: initial }));
  const set = (next) => {
    if (root.unmounted) throw new Error("a component that is gone was given a new state");
    state.value = typeof next === "function" ? next(state.value) : next;
    root.render();
  };
  return [state.value, set];
}

export function useEffect(effect, dependencies) {
  const known = slot(() => ({}));
  if (known.dependencies?.every((each, at) => Object.is(each, dependencies[at]))) return;
  current.effects.push(() => {
    known.cleanUp?.();
    known.dependencies = dependencies;
    known.cleanUp = effect();
  });
}

export class Root {
  slots = [];
  rendering = false;

  constructor(component, props) {
    Object.assign(this, { component, props });
    this.render();
  }

  render(props = this.props) {
    this.props = props;
    this.again = true;
    if (this.rendering) return; // the loop below renders once more
    this.rendering = true;
    while (this.again) this.#renderOnce();
    this.rendering = false;
  }

  #renderOnce() {
    this.again = false;
    Object.assign(this, { next: 0, effects: [] });
    current = this;
    this.tree = this.component(this.props);
    for (const effect of this.effects) effect();
    this.onRender?.();
  }

  /** Wait until an element has these texts as its children's. */
  async shows(type, ...texts) {
    const matches = () => this.tree.type === type && JSON.stringify(this.tree.children.map((each) => each.children?.[0] ?? each)) === JSON.stringify(texts);
    while (!matches()) await new Promise((resolve) => (this.onRender = resolve));
  }

  unmount() {
    for (const { cleanUp } of this.slots) cleanUp?.();
    this.unmounted = true;
  }
}
