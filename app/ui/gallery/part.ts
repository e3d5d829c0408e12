// A component of the gallery and the states that it is shown in.
import type { JSXElementConstructor, ReactNode } from 'react';
import { createElement } from 'react';
import type { Answers } from '../test/fixtures';

export interface State<P> {
  props: P;
  /** What the daemon answers, beside or in place of `machine` (world.ts). */
  daemon?: Answers;
  /** Before it is drawn: what lies in stores. */
  before?: () => void;
  /** Once it is drawn: what somebody does until it looks as is meant. */
  play?: () => Promise<unknown>;
  /** What it is drawn within; else the page's width is its own. */
  within?: (shown: ReactNode) => ReactNode;
  /** Of a component that fills what it is given. */
  height?: number;
}

export interface Shown extends Omit<State<unknown>, 'props'> {
  draw: () => ReactNode;
}

export interface Part {
  name: string;
  folder: string;
  /** What is drawn, for the test that it is the component of that name. */
  component: unknown;
  states: Readonly<Record<string, Shown>>;
}

/** The first state is the one that an overview shows. */
export function part<P extends object>(path: string, component: JSXElementConstructor<P>, states: Readonly<Record<string, State<P>>>): Part {
  const [folder = '', name = ''] = path.split('/');
  const shown = Object.entries(states).map(([state, { props, ...rest }]) => {
    const draw = () => createElement(component, props);
    return [state, { ...rest, draw }] as const;
  });
  return { folder, name, component, states: Object.fromEntries(shown) };
}

/** For callbacks that nobody hears here. */
export const nothing = (): void => undefined;
