// The page's first script: sends for the frame and for the page that the address names at the same time, neither behind the other.
import { loadPage } from './pages';
import './styles.css';

loadPage(location.pathname).catch(() => undefined); // whoever draws it says what is wrong
void import('./main');
